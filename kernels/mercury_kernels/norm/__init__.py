"""Residual addition and RMSNorm, fused."""
