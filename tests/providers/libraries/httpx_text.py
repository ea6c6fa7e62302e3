from collections.abc import Iterator

import httpx


def source(url: str) -> Iterator[str]:
    with httpx.stream("POST", f"{url}/text", json={}, timeout=None) as response:
        yield from response.iter_text()
