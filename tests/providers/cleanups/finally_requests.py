from collections.abc import Iterator

import requests


def source(url: str, saves: str) -> Iterator[str]:
    text = ""
    with requests.Session() as session:
        try:
            response = session.post(f"{url}/text", json={}, stream=True)
            for piece in response.iter_content(None, decode_unicode=True):
                text += piece
                yield piece
        finally:
            session.post(saves, json={"text": text})
