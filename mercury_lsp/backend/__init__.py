"""Between the core and the model service: contexts in, drafts out."""
