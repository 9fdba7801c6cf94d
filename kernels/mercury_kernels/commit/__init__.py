"""The reverse process on the device: which positions to commit, and which to mask again."""
