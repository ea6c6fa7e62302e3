"""How a worker hears the messages on its channel."""

import time
from collections.abc import Callable, Generator
from contextlib import closing as closed_after
from typing import Any

from flask_chatstop.errors import BackendError

#: After so many timeouts of silence the listener checks that it is still connected.
_SILENCE = 2.5


def messages_on(
    client: Any, channel: str, is_over: Callable[[], bool], timeout: float
) -> Generator[dict[str, Any], None, None]:
    """Yield the messages on a channel until ``is_over`` returns True.

    The first one is of the type ``subscribe``. It may come again, since the driver of a
    caller's client may subscribe again by itself.

    :raises BackendError: the server does not answer within the timeout.
    """
    with closed_after(_pubsub(client)) as pubsub:
        pubsub.subscribe(channel)
        answer_by, ping_at = time.monotonic() + timeout, float("inf")
        while not is_over():
            message = pubsub.get_message(timeout=min(1.0, timeout / 2))
            now = time.monotonic()
            if message is not None:
                answer_by, ping_at = float("inf"), now + _SILENCE * timeout
                yield message
            elif now > answer_by:
                raise BackendError(f"Redis is silent for more than {timeout} s.")
            elif now > ping_at:
                pubsub.ping()
                answer_by, ping_at = now + timeout, float("inf")


def _pubsub(client: Any) -> Any:
    # In a cluster every node will do, and the next try uses another one. The driver
    # would insist on the node that has the channel's slot, which may be down.
    get_node = getattr(client, "get_random_node", None)
    return client.pubsub(**({"node": get_node()} if get_node else {}))
