"""A WebSocket server that hears what it is sent, and may say something."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve


class Speaker:
    """What a client has sent, and how it has left."""

    def __init__(self, says: list[str]) -> None:
        self.heard: list[str] = []
        self.says = says
        self.has_left = threading.Event()
        #: 1000 after a closing handshake, 1006 after a connection that was cut.
        self.close_code: int | None = None
        self.url = ""

    def talk(self, connection: ServerConnection) -> None:
        try:
            if self.says:
                self.heard.append(str(connection.recv()))
                for word in self.says:
                    connection.send(word)
            while True:
                self.heard.append(str(connection.recv()))
        except ConnectionClosed:
            self.close_code = connection.protocol.close_code
            self.has_left.set()


@contextmanager
def speaker(*says: str) -> Iterator[Speaker]:
    """Run one for the length of a with block.

    :param says: what it answers to the first message.
    """
    hearer = Speaker(list(says))
    with serve(hearer.talk, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        hearer.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        yield hearer
        server.shutdown()
        thread.join()
