"""Everything that reads or writes the user's files: scans and csv tables."""
