"""Between a network's map and candidates in world millimetres: anchors, assignment, decoding."""
