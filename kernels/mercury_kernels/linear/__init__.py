"""A matrix product over plain or quantized weights; the next operation adds its partial sums."""
