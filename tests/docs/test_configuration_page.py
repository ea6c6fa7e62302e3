"""The page on the configuration has every key, with its default."""

import re

from flask_chatstop import config
from tests.support.paths import DOCS, ROOT

PAGE = (DOCS / "configuration.md").read_text()


def test_it_names_every_key() -> None:
    documented = set(re.findall(r"`+(CHATSTOP_\w+)`+", config.__doc__ or ""))
    assert documented
    assert documented == set(re.findall(r"^\| `(CHATSTOP_\w+)`", PAGE, re.MULTILINE))
    code = (ROOT / "flask_chatstop" / "config.py").read_text()
    assert documented == set(re.findall(r'"(CHATSTOP_\w+)"', code))


def test_it_has_the_default_seconds_of_every_key() -> None:
    documented = re.findall(r"^\| `(CHATSTOP_\w+)` \| (\d+) \|", PAGE, re.MULTILINE)
    code = (ROOT / "flask_chatstop" / "config.py").read_text()
    defaults = re.findall(r'"(CHATSTOP_\w+)": (\d+)\.0,', code)
    assert len(defaults) == 5
    assert sorted(documented) == sorted(defaults)
