"""Every snippet of the README and of the pages is run by a test.

The Python of a page runs in ``test_every_python_snippet_of_a_page_runs``. For each
other one, ``RUN_BY`` names its test: the tests of one page and one language, in the
order of the snippets, or a single one that runs them all.
"""

import re
from collections import Counter
from configparser import ConfigParser
from pathlib import Path

from tests.support.paths import DOCS, ROOT

PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
INSTALL = ".ci/package: The lines that install it"
README_APP = "tests/docs/test_readme_app.py::test_its_commands_stop_a_model"
TUTORIAL = "tests/docs/test_commands.py::test_the_commands_of_a_step_of_the_tutorial"
IN_DOCS = "tests/docs/test_docs.py::test_"
LOG_LINES = IN_DOCS + "every_log_line_of_a_page_is_one_of_the_package"
FRONT_ENDS = "tests/docs/test_front_ends_page.py::test_"
RUN_BY: dict[tuple[str, str], list[str]] = {
    ("README.md", "python"): [README_APP],
    ("README.md", "sh"): [
        INSTALL,
        *[README_APP] * 3,
        "tests/example/test_interrupted_example.py::test_it_reports_the_ends",
        '.ci/run: eval "$command"',
    ],
    ("after-a-stop.md", "js"): [
        "tests/docs/test_after_a_stop_page.py::test_its_script_tells_what_is_not_saved"
    ],
    # Signatures and not code.
    ("api.md", "py"): [
        "tests/docs/test_api_page.py::test_its_signatures_are_those_of_the_code"
    ],
    ("async-sources.md", "sh"): [
        "tests/docs/test_commands.py::test_the_debug_mode_of_the_page_on_async_sources"
    ],
    ("backends.md", "sh"): ["tests/test_benchmarks.py::test_the_command_of_the_page"],
    ("backends.md", "text"): [IN_DOCS + "the_acl_rule_on_the_page_on_backends"],
    ("cli.md", "sh"): ["tests/docs/test_commands.py::test_the_commands_of_the_page"],
    ("deploying.md", "ini"): ["tests/servers/test_uwsgi.py::test_the_settings_on_the"],
    ("deploying.md", "nginx"): ["tests/servers/test_nginx.py::test_an_answer_comes"],
    ("deploying.md", "sh"): [
        "tests/docs/test_commands.py::test_the_commands_of_the_page_on_deploying"
    ],
    ("dify.md", "js"): [IN_DOCS + "the_script_of_the_page_on_dify"],
    ("follow.md", "ini"): [
        "tests/docs/test_commands.py::test_the_settings_of_the_page_on_following"
    ],
    ("follow.md", "js"): ["tests/docs/test_follow_page.py::test_a_page_whose_network"],
    ("follow.md", "sh"): [
        "tests/docs/test_commands.py::test_the_command_of_the_page_on_following"
    ],
    ("from-outside.md", "js"): [
        "tests/docs/test_websocket_script.py::test_its_button_stops_the_answer"
    ],
    ("front-ends.md", "js"): [FRONT_ENDS + "the_button_of_a_page_stops_the_answer"],
    ("front-ends.md", "jsx"): [FRONT_ENDS + "the_button_of_use_chat_stops"],
    ("index.md", "sh"): [
        INSTALL,
        *["tests/docs/test_home_page.py::test_its_ten_lines_stream_an_answer"] * 2,
    ],
    ("model-libraries.md", "text"): [LOG_LINES],
    ("troubleshooting.md", "text"): [LOG_LINES],
    ("tutorial.md", "js"): ["tests/docs/test_tutorial_page.py::test_the_scripts_of"],
    ("tutorial.md", "sh"): [
        INSTALL,
        README_APP,  # flask run
        *[TUTORIAL] * 6,
        IN_DOCS + "the_sixth_step_of_the_tutorial_runs_in_two_workers",
    ],
}


def test_every_snippet_has_a_test_that_runs_it() -> None:
    found = Counter(
        (page.name, language)
        for page in PAGES
        for language in re.findall(r"^ *```(\w+)$", page.read_text(), re.MULTILINE)
        if language != "python" or page.name == "README.md"
    )
    assert set(found) == set(RUN_BY)
    for where, tests in RUN_BY.items():
        assert len(tests) in (1, found[where]), where


def test_the_tests_of_the_snippets_are_there() -> None:
    for test in {test for tests in RUN_BY.values() for test in tests}:
        file, _, name = test.partition("::" if "::" in test else ": ")
        code = (ROOT / file).read_text()
        assert (f"def {name}" if "::" in test else name) in code, test


def test_every_extra_that_is_installed_is_one_of_the_package() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = set(setup["options.extras_require"])
    named = re.compile(r"(?:\.|flask_chatstop)\[([\w,-]+)\]")
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "package"]
    found = {
        (path.name, extra)
        for path in pages
        for extras in named.findall(Path(path).read_text())
        for extra in extras.split(",")
    }
    assert len(found) > 10
    assert {(page, extra) for page, extra in found if extra not in extras} == set()
