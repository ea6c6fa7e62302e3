from collections.abc import Iterator

import httpx

from flask_chatstop import SourceStopped


def source(url: str, saves: str) -> Iterator[str]:
    text = ""
    try:
        with httpx.stream("POST", f"{url}/text", json={}, timeout=None) as response:
            for piece in response.iter_text():
                text += piece
                yield piece
    except (SourceStopped, GeneratorExit):  # while it waits for the model, or between
        httpx.post(saves, json={"text": text})
        raise
