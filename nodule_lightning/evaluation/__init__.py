"""Score, rank and pool submissions, and say how each was made."""
