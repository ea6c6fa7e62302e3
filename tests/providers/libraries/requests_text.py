from collections.abc import Iterator

import requests


def source(url: str) -> Iterator[str]:
    response = requests.post(f"{url}/text", json={}, stream=True)
    yield from response.iter_content(None, decode_unicode=True)
