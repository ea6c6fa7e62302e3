"""What the stop costs, measured: each figure a ratio or a pair from one run.

``python -m benchmarks`` measures every row and writes ``benchmarks/RESULTS.md``.
"""

#: The modules in ``benchmarks.rows`` that are measured, in the order of the page.
ROWS = (
    "stop_latency",
    "library_stops",
    "chunk",
    "tracking",
    "async_sources",
    "route",
    "growth",
    "idle",
    "fan_out",
    "traffic",
    "table_size",
    "many_workers",
    "follow",
)
#: Those that take long, and are measured only if asked for.
LONG_ROWS = ("fuzz",)
