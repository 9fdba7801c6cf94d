"""The language-model head, reduced to what sampling needs; the logits are never stored."""
