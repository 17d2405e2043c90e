"""A chest CT made from a seed, with nodules whose place and size are known."""
