from collections.abc import Iterator

import urllib3


def source(url: str) -> Iterator[str]:
    with urllib3.PoolManager() as pool:
        response = pool.request("POST", f"{url}/text", json={}, preload_content=False)
        for piece in response.stream():
            yield piece.decode()
