"""Ending what a source waits for: the calls to its model provider.

What is public of it is exported by :mod:`flask_chatstop`.
"""
