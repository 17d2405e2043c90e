"""Find the lungs in a CT, so that the network sees nothing else."""
