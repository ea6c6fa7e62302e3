"""The page of the API says what the code says, also where no Sphinx has run."""

import re

import flask_chatstop
from tests.support import signatures


def test_its_signatures_are_those_of_the_code() -> None:
    page = signatures.PAGE.read_text()
    run = "run `python -m tests.support.signatures`"
    assert page == signatures.with_signatures(page), run


def test_it_has_a_signature_of_every_public_name() -> None:
    page = signatures.PAGE.read_text()
    written = "\n".join(
        re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    )
    names = set(re.findall(r"^(?:class )?(\w+)", written, re.MULTILINE))
    assert set(flask_chatstop.__all__) - names == {"current_task"}
