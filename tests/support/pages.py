"""The code that the pages of the documentation show."""

import re
import textwrap

from tests.support.paths import DOCS


def blocks(page: str, language: str) -> list[str]:
    """Give the fenced blocks of a page that are in a language."""
    fence = rf"^( *)```{language}\n(.*?)^\1```$"
    found = re.findall(fence, (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]
