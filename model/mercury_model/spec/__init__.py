"""What a set of weights is, as data: architecture, FIM format, card, tokenizer."""
