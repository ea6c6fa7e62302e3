from collections.abc import Iterator

import httpx
from websockets.sync.client import connect


def source(url: str, speaker: str) -> Iterator[str]:
    """Have each piece spoken; the last word to the speaker is a closing handshake."""
    with (
        connect(speaker) as websocket,
        httpx.stream("POST", f"{url}/text", json={}, timeout=None) as response,
    ):
        for piece in response.iter_text():
            websocket.send(piece)
            yield piece
