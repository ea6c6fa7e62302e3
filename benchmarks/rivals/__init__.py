"""Other ways to stop, which are measured beside ours."""
