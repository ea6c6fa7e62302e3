"""Hooking into HTTP libraries: once per process, only where known, and undone."""

import importlib
import importlib.metadata
import importlib.util
import logging
import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from flask_chatstop.errors import SourceStopped
from flask_chatstop.upstream import httpcore, urllib3
from flask_chatstop.upstream.shape import Hook

logger = logging.getLogger(__name__)

_LIBRARIES: dict[str, Callable[[Any], list[Hook]]] = {
    "httpcore": httpcore.hooks,
    "httpcore2": httpcore.hooks,
    "urllib3": urllib3.hooks,
}

# The libraries are the process's, and so are their hooks.
_lock = threading.Lock()
_undo: list[Callable[[], None]] = []
_is_installed = False


def install() -> None:
    """Put the hooks into the HTTP libraries that are installed, once."""
    global _is_installed
    if _is_installed:
        return
    with _lock:
        if not _is_installed:
            _put(threading, "excepthook", _quiet)
            for name, hooks in _LIBRARIES.items():
                _hook(name, hooks)
            _is_installed = True


def uninstall() -> None:
    """Take every hook out again; a later :func:`install` puts them back."""
    global _is_installed
    with _lock:
        while _undo:
            _undo.pop()()
        _is_installed = False


def _hook(name: str, hooks: Callable[[Any], list[Hook]]) -> None:
    # Imported here if the app has not done it yet, since it may while a source runs.
    if importlib.util.find_spec(name) is None:
        return
    try:
        found = hooks(importlib.import_module(name))
    except Exception as error:
        # Its insides are private, and a later version may change them.
        logger.warning(
            "%s %s is not as known (%r), and is left alone: a stop does not hang up on"
            " calls that are made with it. Give them as upstream=, see the page on"
            " model libraries.",
            name,
            version_of(name),
            error,
        )
        return
    for hook in found:
        _put(*hook)


def _put(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    setattr(owner, name, wrap(original))
    _undo.append(partial(setattr, owner, name, original))


def _quiet(original: Callable[[Any], object]) -> Callable[[Any], object]:
    """Let a thread that ends by a stop print no traceback."""

    @wraps(original)
    def excepthook(args: Any) -> None:
        error = args.exc_value
        # The library may have made an error of its own of it.
        while error is not None and not isinstance(error, SourceStopped):
            error = error.__cause__ or error.__context__
        if error is None:
            original(args)

    return excepthook


def version_of(name: str) -> str:
    """Return the version of a distribution, for the log."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "of an unknown version"
