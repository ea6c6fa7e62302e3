"""The example app as the README runs it, on a free port."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.paths import ROOT


@pytest.fixture
def running_example() -> Iterator[str]:
    """Run the example on a free port, and give its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "example_app.py", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background job ignores it, and so would its children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if "Running on" in line:
            break
    assert "the API key is demo-key" in "".join(lines)
    rest = threading.Thread(target=lines.extend, args=(process.stdout,))
    rest.start()
    yield f"127.0.0.1:{port}"
    process.send_signal(signal.SIGINT)
    process.wait(10)
    rest.join()
    process.stdout.close()
    assert "Traceback" not in "".join(lines)
