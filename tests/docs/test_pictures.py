"""The pictures of the README show the chat page as it is."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.paths import DOCS, ROOT
from tests.support.servers.browser import CHROMIUM

PICTURES = {"chat-page.png", "stop.gif"}


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_script_makes_the_pictures_that_are_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "docs.make_pictures", "--to", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    assert {path.name for path in tmp_path.iterdir()} == PICTURES
    for name in PICTURES:
        assert (DOCS / name).stat().st_size < 300_000
        with Image.open(tmp_path / name) as made, Image.open(DOCS / name) as kept:
            assert kept.size == made.size
            assert frames_of(kept) == frames_of(made)


def test_the_animation_ends_with_what_a_stop_leaves() -> None:
    with Image.open(DOCS / "stop.gif") as animation:
        durations = []
        for number in range(frames_of(animation)):
            animation.seek(number)
            durations.append(animation.info["duration"])
    assert durations[-1] > 2 * max(durations[:-1])


def frames_of(picture: Image.Image) -> int:
    return int(getattr(picture, "n_frames", 1))
