"""The body of a streamed response, with nothing between it and the server.

werkzeug puts a generator and an iterator there, which no stream of ours needs. Each
calls the next one through C, and gevent keeps the stack of C for each stream that
waits. With what they are made of, that is 1.7 KiB a stream.
"""

import abc
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, cast

from flask import Flask, Response
from werkzeug.wrappers import Response as BaseResponse


class StreamedBody(Iterator[bytes]):
    """A body that a server may read itself: it yields bytes, and nothing else."""

    __slots__ = ()

    @abc.abstractmethod
    def close(self) -> None:
        """Stop sending; may be called again."""


def streamed_response(app: Flask, body: Iterable[bytes], **options: Any) -> Response:
    """Return a response of the app's class; the server reads a streamed body itself."""
    # mypy takes the __hash__ of its instances for that of the class.
    response_class = _directly_read(app.response_class)  # type: ignore[arg-type]
    return response_class(body, **options)


@cache
def _directly_read(response_class: type[Response]) -> type[Response]:
    """Return a subclass, or the class itself if it changes how a body is read."""
    for name in ("get_app_iter", "iter_encoded"):
        if getattr(response_class, name) is not getattr(BaseResponse, name):
            return response_class
    bases = (_DirectlyRead, response_class)
    return cast(type[Response], type(response_class.__name__, bases, {}))


class _DirectlyRead(BaseResponse):
    """A response whose body the server reads itself, unless a hook has replaced it."""

    def get_app_iter(self, environ: dict[str, Any]) -> Iterable[bytes]:
        # werkzeug sends no body to HEAD, nor with statuses like 204.
        is_plain = self.status_code == 200 and environ["REQUEST_METHOD"] != "HEAD"
        if is_plain and isinstance(self.response, StreamedBody):
            return _ClosingBody(self, self.response)
        return super().get_app_iter(environ)


class _ClosingBody(Iterator[bytes]):
    """The body as the server reads it; to close it is to close the response."""

    __slots__ = ("_body", "_response")

    def __init__(self, response: BaseResponse, body: StreamedBody) -> None:
        self._response = response
        self._body = body

    def __next__(self) -> bytes:
        return self._body.__next__()

    def close(self) -> None:
        self._response.close()
