"""Infilling quality on held-out code: how often a completion is right, and whether it knows."""
