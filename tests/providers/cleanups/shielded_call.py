from collections.abc import Iterator

import httpx

from flask_chatstop import GenerationTask


def source(url: str, saves: str, task: GenerationTask) -> Iterator[str]:
    """Have a summary made to its end, whether somebody reads it or not."""
    text = ""
    with (
        task.shield(),
        httpx.stream("POST", f"{url}/text", json={}, timeout=None) as response,
    ):
        for piece in response.iter_text():
            text += piece
        httpx.post(saves, json={"text": text})
    yield text
