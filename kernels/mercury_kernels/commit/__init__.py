"""The reverse process on the device: which positions of a block to settle, which to open again."""
