"""Quantize activations to fp8 by row, so that products with fp8 weights run at the fp8 rate."""
