"""One answer, from its source to its client, and the one end that it has.

What is public of it is exported by :mod:`flask_chatstop`.
"""
