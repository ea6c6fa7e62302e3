"""A stop request's way from HTTP to its answer.

What is public of it is exported by :mod:`flask_chatstop`.
"""
