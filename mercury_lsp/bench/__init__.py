"""The latency benchmark: a headless editor that replays typing into a real server."""
