"""The home page does what it says and leads to every page; the glossary is in order."""

import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from flask_chatstop.testing import wait_until
from tests.support.pages import blocks, run
from tests.support.paths import DOCS, ROOT
from tests.support.servers.threaded import served

INDEX = (DOCS / "index.md").read_text()
GLOSSARY = (DOCS / "glossary.md").read_text()


def test_its_ten_lines_stream_an_answer_that_its_commands_stop(tmp_path: Path) -> None:
    module = ModuleType("home_page")
    [app] = blocks("index.md", "python")
    run(app, module)
    ask, stop = re.findall(r"^curl .*", INDEX, re.MULTILINE)
    answer = tmp_path / "answer"
    with served(module.__dict__["app"]) as url, answer.open("wb") as output:
        here = url.removeprefix("http://")
        streaming = subprocess.Popen(
            ask.replace("127.0.0.1:5000", here), shell=True, stdout=output
        )
        wait_until(lambda: '"answer":"1 "' in answer.read_text())
        [task_id] = set(re.findall(r'"task_id":"([^"]+)"', answer.read_text()))
        stopped = subprocess.run(
            stop.replace("127.0.0.1:5000", here).replace("TASK_ID", task_id),
            shell=True,
            capture_output=True,
            text=True,
        )
        streaming.communicate(timeout=60)
    assert "Chatstop-Outcome: stopping" in stopped.stdout
    assert '"end_reason":"stopped"' in answer.read_text().strip().splitlines()[-1]


def test_a_stop_needs_ten_lines_beside_the_model() -> None:
    [app] = blocks("index.md", "python")
    model = re.compile(r"^(import time|def ask_the_model.*\n(    .*\n)+)", re.MULTILINE)
    assert len([line for line in model.sub("", app).splitlines() if line]) == 10


@pytest.mark.parametrize("page", sorted(page.name for page in DOCS.glob("*.md")))
def test_a_reader_of_the_home_page_finds_every_page(page: str) -> None:
    assert page == "index.md" or re.search(rf"^\| .*\]\({page}\) \|$", INDEX, re.M)


def test_the_readme_leads_to_the_home_page() -> None:
    assert "](docs/index.md)" in (ROOT / "README.md").read_text()


def test_the_words_of_the_glossary_stand_in_the_order_of_the_alphabet() -> None:
    words = re.findall(r"^\| ([^|]+) \|", GLOSSARY, re.M)[1:]
    assert len(words) > 30
    assert words == sorted(words, key=str.lower)


def test_every_word_that_the_glossary_refers_to_has_an_entry() -> None:
    words = set(re.findall(r"^\| ([^|]+) \|", GLOSSARY, re.M))
    named = set(re.findall(r"\*([a-z ]+)\*", GLOSSARY)) - {"italics"}
    assert {
        word for word in named if not {word, word.removesuffix("s")} & words
    } == set()
