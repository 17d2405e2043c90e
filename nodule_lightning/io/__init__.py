"""Input and output: scans, csv tables, viewer formats, atomic writes and worker processes."""
