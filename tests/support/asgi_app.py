"""The small app for ASGI servers, by a2wsgi, and for hypercorn's own adapter."""

from typing import Any

from a2wsgi import WSGIMiddleware

from tests.support.small_app import create_app

wsgi: Any = create_app()
application = WSGIMiddleware(wsgi)
