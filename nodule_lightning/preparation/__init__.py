"""Turn raw CT into cache entries: one scan, many scans, data set layouts, and the page to check them by."""
