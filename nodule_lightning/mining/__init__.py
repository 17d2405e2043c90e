"""Examples that the model of now finds hard: hard patches of an epoch, false positives of whole scans."""
