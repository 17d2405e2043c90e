"""Networks as plain torch modules: a batch of patches in, a map of logits out."""
