import threading
from collections.abc import Iterator

import httpx

from flask_chatstop import GenerationTask


def source(url: str, saves: str, task: GenerationTask) -> Iterator[str]:
    """Save at the model's own server, where a stopped source may ask no more."""
    stop = threading.Event()
    task.on_stop(stop.set)
    with httpx.stream("POST", f"{url}/text", json={}) as response:
        text = response.read().decode()
    yield text
    # A tool of the app's own, that takes until the stop.
    stop.wait(30)
    with task.shield():
        httpx.post(saves, json={"text": text})
