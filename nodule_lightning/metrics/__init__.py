"""The challenge score, as pure functions over arrays and as a torchmetrics metric."""
