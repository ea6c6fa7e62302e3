"""Attack the stop route with raw bytes: ``python -m tests.fuzz --seconds 120``.

The bytes go through gunicorn's own parser into an app. What may come out is read from
the contract, in reading.py, without the package. The requests are written from parts
and then damaged. Guidance by coverage was tried instead, with atheris: in a minute it
reached as many branches (1,535 and 1,531), at a third of the speed.
"""
