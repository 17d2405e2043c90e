"""The cache of prepared scans: entries on disk, their catalog, and locks for concurrent writers."""
