"""Programs of a test's own, which fork and exit."""

import subprocess
import sys
import textwrap

from tests.support.paths import ROOT


def run(code: str) -> str:
    """Run a program, and give what it printed."""
    process = subprocess.run(
        [
            sys.executable,
            *("-W", "error"),
            *("-W", "ignore:This process:DeprecationWarning"),  # fork, since 3.12
            *("-c", textwrap.dedent(code)),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert process.returncode == 0, process.stderr
    # What a finalizer raises or warns of does not change the exit code.
    for word in ("Traceback", "Exception ignored", "Warning", "was destroyed"):
        assert word not in process.stderr, process.stderr
    return process.stdout
