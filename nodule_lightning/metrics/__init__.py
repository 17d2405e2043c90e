"""The challenge score (FROC), as pure functions over arrays and as a torchmetrics metric."""
