"""A matrix product over plain or narrow weights, left as partial sums for the next operation."""
