"""What happens beside training: what it tells of itself."""
