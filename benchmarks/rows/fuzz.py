"""What 20 minutes of raw bytes do to the stop route."""

import secrets

from benchmarks.support.report import Figure, Row, at_most
from tests.fuzz.__main__ import LONG
from tests.fuzz.loop import BLOCKS_A_REQUEST, Figures, run

HOW = """
Raw bytes, most of them written like requests and then mangled, go through gunicorn's
parser into an app with two keys, several users and running tasks. An independent
reading of each request says whether it had the right to stop a task; the attack ends
with an error at the first answer of 500 or more, the first error that is not the
contract's JSON, and the first task that is stopped without that right or not stopped
despite it. Memory is compared with that after half a minute. `python -m tests.fuzz
--long` does the same, and CI does it for two minutes.
"""


def figures_of(attack: Figures) -> list[Figure]:
    """Give what was done, and what it left behind."""
    counts = attack.counts
    failures = sum(n for status, n in counts.statuses.items() if status >= 500)
    blocks = (attack.after.blocks - attack.before.blocks) / counts.connections
    before, after = (
        memory.resident / 2**20 for memory in (attack.before, attack.after)
    )
    return [
        Figure(
            what="connections attacked with",
            ours=f"{counts.connections:,} in {attack.seconds:,.0f} s",
            beside=f"{counts.refused_by_server:,} of them not HTTP",
        ),
        Figure(
            what="answers of 500 or more",
            ours=str(failures),
            beside=f"{sum(counts.statuses.values()):,} answers",
            **at_most(failures, 0),
        ),
        Figure(
            what="tasks stopped, each by a request with the right to it",
            ours=f"{counts.authorised_stops:,}",
        ),
        Figure(
            what="memory after",
            ours=f"{after:.1f} MiB",
            beside=f"before {before:.1f} MiB",
            ratio=after / before,
        ),
        Figure(
            what="objects that a connection left behind",
            ours=f"{blocks:.3f}",
            goal=f"≤ {BLOCKS_A_REQUEST}, beside the noise of a process",
            is_met=attack.is_flat,
        ),
    ]


def measure(quick: bool = False) -> Row:
    """Attack, for 20 minutes unless it is to be quick.

    :raises Found: the route gave way.
    """
    attack = run(2.0 if quick else LONG, secrets.randbits(32))
    return Row(
        name="fuzz",
        title="Raw bytes against the stop route",
        how=HOW,
        figures=figures_of(attack),
    )
