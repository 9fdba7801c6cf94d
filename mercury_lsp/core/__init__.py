"""The completion pipeline, pure: no torch, no pygls, no asyncio, no threads, no files, no clock."""
