"""Where the product meets the model: contexts in, drafts out."""
