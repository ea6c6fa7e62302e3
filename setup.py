"""Give package indexes the README with links that work on their pages, too.

All else is in ``setup.cfg``. Its ``project_urls`` may have a ``Source``, a repository
whose pages are like GitHub's: then links and pictures lead to the tag of the version.
Without it, links become plain text, and pictures are left out.
"""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
# A picture if it begins with "!", with a path of this repository in the parentheses.
LINK = re.compile(r"(!?)\[([^]]*)\]\((?!\w+:|#)([^)]+)\)")


def description() -> str:
    """Return the README as the page of a package index shows it."""
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg")
    urls = settings.get("metadata", "project_urls", fallback="")
    source = re.search(r"^Source *= *(.*?)/?$", urls, re.MULTILINE)
    version = settings["metadata"]["version"]

    def replace(link: re.Match[str]) -> str:
        picture, text, path = link.groups()
        if source is None:
            return "" if picture else text
        kind = "raw" if picture else "blob"
        return f"{picture}[{text}]({source[1]}/{kind}/v{version}/{path})"

    return LINK.sub(replace, (ROOT / "README.md").read_text(encoding="utf-8"))


setup(long_description=description(), long_description_content_type="text/markdown")
