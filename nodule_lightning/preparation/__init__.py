"""Preparation of raw CT into cache entries: single scans, data sets and their layouts, and the page to check them."""
