from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pymysql


def source(url: str, storage: str) -> Iterator[str]:
    text = ""
    server = urlsplit(storage)
    with pymysql.connect(
        host=server.hostname,
        port=server.port or 3306,
        user=server.username,
        password=server.password or "",
        database=server.path.removeprefix("/"),
    ) as connection:
        try:
            with httpx.stream("POST", f"{url}/text", json={}, timeout=None) as response:
                for piece in response.iter_text():
                    text += piece
                    yield piece
        finally:
            connection.cursor().execute("INSERT INTO saves VALUES (%s)", [text])
            # The stop goes on as an exception, and would roll it back.
            connection.commit()
