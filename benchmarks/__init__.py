"""What the stop costs, measured: each figure a ratio or a pair from one run.

``python -m benchmarks`` measures every row and writes ``benchmarks/RESULTS.md``.
"""

#: The modules whose ``measure`` gives a row of the page, in its order.
ROWS = ("stop_latency", "chunk", "route", "growth", "fan_out", "traffic", "table_size")
#: Those that take long, and are measured only if asked for.
LONG_ROWS = ("fuzz",)
