"""The console commands, each a Hydra application."""
