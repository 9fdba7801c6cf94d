"""The language-model head with what a sampler needs of it; logits are never stored."""
