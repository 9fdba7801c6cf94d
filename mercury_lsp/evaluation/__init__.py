"""Infilling quality on held-out code: exactness and calibration."""
