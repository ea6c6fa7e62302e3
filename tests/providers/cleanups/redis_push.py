from collections.abc import Iterator

import httpx
import redis


def source(url: str, storage: str, key: str) -> Iterator[str]:
    text = ""
    with redis.Redis.from_url(storage) as client:
        client.ping()
        try:
            with httpx.stream("POST", f"{url}/text", json={}, timeout=None) as response:
                for piece in response.iter_text():
                    text += piece
                    yield piece
        finally:
            client.rpush(key, text)
