"""How Sphinx builds these pages: ``sphinx-build -W -n docs docs/_build``."""

from importlib import import_module
from typing import Any

project = "flask_chatstop"
author = copyright = "The flask_chatstop developers"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "flask_chatstop"
html_copy_source = False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

nitpicky = True
# What other projects document, and the type variables, have no page here.
nitpick_ignore_regex = [
    ("py:.*", r"(flask|sqlalchemy|threading|collections|typing|types|redis)(\..*)?"),
    ("py:.*", r"(.*\.)?([A-Z]|SourceReader|RedisClient)"),
]

_MODULES = [
    "flask_chatstop",
    "flask_chatstop.backends",
    "flask_chatstop.backends.database",
    "flask_chatstop.testing",
]


def setup(app: Any) -> None:
    """Have names found under the module that users import them from."""
    app.connect("missing-reference", _under_its_public_name)


def _under_its_public_name(app: Any, env: Any, node: Any, content: Any) -> Any:
    if node.get("refdomain") != "py":
        return None
    first, *rest = node["reftarget"].split(".")
    if first == "flask_chatstop":
        first, rest = rest[-1] if rest else "", []
    for module in _MODULES:
        if hasattr(import_module(module), first):
            found = env.get_domain("py").resolve_xref(
                env,
                node["refdoc"],
                app.builder,
                node["reftype"],
                ".".join([module, first, *rest]),
                node,
                content,
            )
            if found is not None:
                return found
    return None
