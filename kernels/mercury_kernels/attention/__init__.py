"""Attention of a block over a cached context and itself."""
