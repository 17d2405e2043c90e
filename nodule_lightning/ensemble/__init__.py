"""One submission from several: marks that mean the same finding are fused, in world millimetres."""
