"""The chat page of ``example_app.py``."""
