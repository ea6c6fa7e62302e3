from collections.abc import Iterator

import httpx
from websockets.sync.client import connect

from flask_chatstop import GenerationTask


def source(url: str, speaker: str, saves: str, task: GenerationTask) -> Iterator[str]:
    """Ask one model over HTTP, and a second one over a WebSocket, which is not tracked.

    Closing it is left to ``on_stop``, and raises an ordinary exception here.
    """
    text = ""
    with httpx.stream("POST", f"{url}/text", json={}) as response:
        question = response.read().decode()
    try:
        with connect(speaker) as websocket:
            task.on_stop(websocket.close)
            websocket.send(question)
            while True:
                piece = str(websocket.recv())
                text += piece
                yield piece
    except Exception:
        httpx.post(saves, json={"text": text})
        raise
