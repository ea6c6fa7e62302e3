import threading
from collections.abc import Iterator

import httpx

from flask_chatstop import GenerationTask


def source(url: str, task: GenerationTask) -> Iterator[str]:
    """Ask the model again after a stop, without having looked for one."""
    stop = threading.Event()
    task.on_stop(stop.set)
    while True:
        with httpx.stream("POST", f"{url}/text", json={}) as response:
            yield response.read().decode()
        stop.wait(30)
