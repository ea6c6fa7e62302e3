"""What flask_chatstop costs, each figure a ratio measured in one run."""
