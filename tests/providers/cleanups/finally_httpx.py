from collections.abc import Iterator

import httpx


def source(url: str, saves: str) -> Iterator[str]:
    text = ""
    with httpx.Client(timeout=None) as client:
        try:
            with client.stream("POST", f"{url}/text", json={}) as response:
                for piece in response.iter_text():
                    text += piece
                    yield piece
        finally:
            client.post(saves, json={"text": text})
