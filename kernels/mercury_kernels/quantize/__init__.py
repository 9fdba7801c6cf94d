"""Rows of activations in fp8, so that products with weights in fp8 run at twice the rate."""
