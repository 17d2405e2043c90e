"""Scoring, ranking and pooling of submissions, with the provenance of each."""
