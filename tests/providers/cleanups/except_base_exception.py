from collections.abc import Iterator

import httpx


def source(url: str, saves: str) -> Iterator[str]:
    text = ""
    try:
        with httpx.stream("POST", f"{url}/text", json={}, timeout=None) as response:
            for piece in response.iter_text():
                text += piece
                yield piece
    except BaseException:
        httpx.post(saves, json={"text": text})
        raise
