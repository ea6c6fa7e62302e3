"""Sources that have something to do when they are stopped, as users write them.

Each gets what it names: ``url`` of the model provider, ``saves`` of another server,
``storage`` of a store, and the ``task``.
"""
