import threading
from collections.abc import Iterator

import httpx

from flask_chatstop import GenerationTask


def source(url: str, saves: str, task: GenerationTask) -> Iterator[str]:
    text = ""
    stop = threading.Event()
    task.on_stop(stop.set)
    while not task.stopped:
        with httpx.stream("POST", f"{url}/text", json={}) as response:
            for piece in response.iter_text():
                text += piece
                yield piece
        # A tool of the app's own, that takes until the stop.
        stop.wait(30)
        if task.stopped:
            break
    httpx.post(saves, json={"text": text})
