"""The example app as the README runs it, on a free port."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.support.paths import ROOT
from tests.support.servers.ports import free_port


@contextmanager
def example_process(**environ: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Start the example, and give its process and its address."""
    lines: list[str] = []
    while True:
        port = free_port()
        process: subprocess.Popen[Any] = subprocess.Popen(
            [sys.executable, "example_app.py", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell's background job ignores it, and so would its children.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if "Running on" in line:
                    assert "the API key is demo-key" in "".join(lines)
                    yield process, f"127.0.0.1:{port}"
                    return
        # A test that runs beside this one may have taken the port meanwhile.
        assert "in use" in "".join(lines), lines
