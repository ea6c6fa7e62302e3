"""Ending what a source waits for: the model provider's response."""
