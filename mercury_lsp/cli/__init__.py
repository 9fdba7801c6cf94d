"""The commands of `mercury-lsp`, a module each."""
