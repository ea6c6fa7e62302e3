from collections.abc import Iterator

import httpx2


def source(url: str) -> Iterator[str]:
    with httpx2.stream("POST", f"{url}/text", json={}, timeout=None) as response:
        yield from response.iter_text()
