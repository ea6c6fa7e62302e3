"""A stop request's way from HTTP to its answer."""
