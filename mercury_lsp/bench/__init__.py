"""The headless latency harness."""
