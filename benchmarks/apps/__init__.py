"""The apps of ours that are measured, most of them under gunicorn."""
