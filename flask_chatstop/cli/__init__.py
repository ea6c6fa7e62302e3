"""The command line: ``flask chatstop``."""

from flask_chatstop.cli.commands import commands

__all__ = ["commands"]
