from collections.abc import Iterator

import httpx
import psycopg


def source(url: str, storage: str) -> Iterator[str]:
    text = ""
    with psycopg.connect(storage) as connection:
        try:
            with httpx.stream("POST", f"{url}/text", json={}, timeout=None) as response:
                for piece in response.iter_text():
                    text += piece
                    yield piece
        finally:
            connection.execute("INSERT INTO saves VALUES (%s)", [text])
            # The stop goes on as an exception, and would roll it back.
            connection.commit()
