"""Networks, as plain modules: a batch of patches in, a map of logits out."""
