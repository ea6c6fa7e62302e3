"""How Sphinx builds these pages: ``sphinx-build -W -n docs docs/_build``."""

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
    (
        "py:.*",
        r"(flask|sqlalchemy|threading|contextlib|collections|typing|types|redis|uuid|werkzeug)(\..*)?",
    ),
    ("py:.*", r"(.*\.)?([A-Z]|Reader|RedisClient)"),
]
