"""Build objects from configurations, and read and quote the values in them."""
