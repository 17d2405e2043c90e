"""Prepared scans on disk: entries, their catalogue, and how several processes replace them safely."""
