"""Choose a token for each position: the likeliest, a seeded sample, or the k-th alternative."""
