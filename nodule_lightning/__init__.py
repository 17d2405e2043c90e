"""Find lung nodules in chest CT: training, scoring and leaderboard entries."""

__version__ = "0.1.0"
