"""Gate and up projections with their activation: the gated layer's first half in one pass."""
