"""Lightning callbacks: mining, reports, weight averaging, log lines."""
