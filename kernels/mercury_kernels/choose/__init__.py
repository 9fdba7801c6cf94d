"""Which token a prediction stands for: the likeliest, a seeded sample, or the k-th alternative."""
