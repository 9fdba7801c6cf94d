"""Residual addition and RMSNorm in one pass over the row."""
