"""Faults, done to whole apps under gunicorn with a model and a store of their own.

A test whose name begins with ``test_never`` is of a complaint that docs/design.md lists
under "What must never happen"; its docstring quotes the complaint.
"""
