"""The code that the pages of the documentation show, and running it."""

import functools
import os
import re
import sys
import textwrap
from types import ModuleType
from typing import Any
from unittest.mock import patch

from tests.support.paths import DOCS


def blocks(page: str, language: str) -> list[str]:
    """Give the fenced blocks of a page that are in a language."""
    fence = rf"^( *)```{language}\n(.*?)^\1```$"
    found = re.findall(fence, (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]


def run(code: str, module: ModuleType) -> None:
    exec(compile(code, module.__name__, "exec"), module.__dict__)


@functools.cache
def names_of(page: str) -> Any:
    """Run the Python of a page from its first line to its last, once."""
    module = ModuleType(page.removesuffix(".md").replace("-", "_"))
    sys.modules[module.__name__] = module
    settings = {"FLASK_CHATSTOP_API_KEYS": '{"demo-key": "my-app"}'}
    # A page's test imports the app of the page. Not patch.dict(), which would forget
    # what the page is the first to import.
    sys.modules["app"] = module
    try:
        with patch.dict(os.environ, settings):
            for code in blocks(page, "python"):
                run(code, module)
    finally:
        del sys.modules["app"]
    return module
