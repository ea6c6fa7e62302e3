"""Hooking into HTTP libraries: once per process, only where known, and undone."""

import importlib
import importlib.metadata
import importlib.util
import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from flask_chatstop.errors import SourceStopped
from flask_chatstop.logs import get_logger
from flask_chatstop.upstream import aiohttp, httpcore, urllib3
from flask_chatstop.upstream.shape import Hook

logger = get_logger(__name__)

_LIBRARIES: dict[str, Callable[[Any], list[Hook]]] = {
    "aiohttp": aiohttp.hooks,
    "httpcore": httpcore.hooks,
    "httpcore2": httpcore.hooks,
    "urllib3": urllib3.hooks,
}

# The libraries are the process's, and so are their hooks.
_lock = threading.Lock()
_undo: list[Callable[[], None]] = []
# Libraries that are not hooked into yet: they may be replaced by the mock of a test.
_left: set[str] = set(_LIBRARIES)
_named: set[str] = set()


def install() -> None:
    """Put the hooks into the HTTP libraries that are installed, once."""
    if not _left:
        return
    with _lock:
        if not _undo:
            _put(threading, "excepthook", _quiet)
        for name in list(_left):
            if _hook(name, _LIBRARIES[name]):
                _left.discard(name)


def uninstall() -> None:
    """Take every hook out again; a later :func:`install` puts them back."""
    with _lock:
        while _undo:
            _undo.pop()()
        _left.update(_LIBRARIES)
        _named.clear()


def _hook(name: str, hooks: Callable[[Any], list[Hook]]) -> bool:
    """Put the hooks into one library, and tell whether that is done."""
    # Imported here if the app has not done it yet, since it may while a source runs.
    if importlib.util.find_spec(name) is None:
        return True
    try:
        found = hooks(importlib.import_module(name))
    except Exception as error:
        # Its insides are private, and a later version may change them.
        if name not in _named:
            _named.add(name)
            logger.warning(
                "%s %s is not as known (%r), and is left alone: a stop does not hang"
                " up on calls that are made with it. Either a mock replaces it, or"
                " give its responses as upstream=, see the page on model libraries.",
                name,
                version_of(name),
                error,
            )
        return False
    for hook in found:
        _put(*hook)
    return True


def _put(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, wrap(original))
    _undo.append(partial(setattr, owner, name, original))


def _quiet(original: Callable[[Any], object]) -> Callable[[Any], object]:
    """Let a thread that ends by a stop print no traceback."""

    @wraps(original)
    def excepthook(args: Any) -> None:
        error = args.exc_value
        # The library may have raised an error of its own from it. An error that came
        # up while it was handled, in a cleanup, is another matter.
        while error is not None and not isinstance(error, SourceStopped):
            error = error.__cause__
        if error is None:
            original(args)

    return excepthook


def version_of(name: str) -> str:
    """Return the version of a distribution, for the log."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"
