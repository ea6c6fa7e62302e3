"""How the chat page looks on phones, in forced colours and on paper."""

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.example.conftest import Ask

PHONE: dict[str, Any] = {
    "viewport": {"width": 320, "height": 568},
    "has_touch": True,
    "is_mobile": True,
}
ANSWER = f"""\
# A title

Some **bold** words, `code`, a [link](https://a.example/{"x" * 90}) and {"y" * 90}.

```python
{"long_name " * 20}
```

|  | A | {"long " * 20} | D | E |
|---|---|---|---|---|
| {"z" * 90} | c | d | e | f |

- [ ] to do
  1. first
     > said, ![a picture](https://a.example/x.png)

##### Deeper

    indented {"code" * 20}

[![badge](https://a.example/x.png)](https://b.example) <kbd>Esc</kbd> <mark>here</mark>

---

"""


def show_all_buttons(page: Page) -> None:
    page.evaluate(
        """async () => {
          // The page hides a button when it hears, with the next frame, that it has
          // been scrolled to its end.
          await new Promise(requestAnimationFrame);
          document.querySelectorAll("button").forEach((each) => (each.hidden = false));
          document.getElementById("send").textContent = "Stop and send";
        }"""
    )


def edges(locator: Locator) -> tuple[float, float, float, float]:
    """Give where something begins and ends: left, top, right and bottom."""
    box = locator.bounding_box()
    assert box is not None
    return box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_a_phone(ask: Ask, width: int) -> None:
    viewport = {"width": width, "height": 568}
    page = ask(ANSWER, then="silence", **{**PHONE, "viewport": viewport}).page
    for prepare in (lambda page: None, show_all_buttons):
        prepare(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        # What is wider is scrolled in a box of its own, which stays on the page.
        for wide in page.locator(".wide").all():
            left, _, right, _ = edges(wide)
            assert left >= 8
            assert right <= width - 8
            assert wide.evaluate("each => each.scrollWidth > each.clientWidth")


def test_no_control_touches_another_on_a_phone(ask: Ask) -> None:
    page = ask(ANSWER, then="silence", **PHONE).page
    show_all_buttons(page)
    controls = [
        *(page.locator(f"#{name}") for name in ("latest", "query", "status")),
        *(page.locator(f"#{name}") for name in ("stop", "send")),
    ]
    boxes = [edges(control) for control in controls]
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 8
        assert right <= 320 - 8
        for other in boxes[number + 1 :]:
            apart = max(other[0] - right, left - other[2], other[1] - bottom)
            assert max(apart, top - other[3]) >= 4
    assert boxes[-1][3] <= 568 - 8


def test_a_finger_hits_every_button(ask: Ask) -> None:
    page = ask(ANSWER, then="silence", **PHONE).page
    show_all_buttons(page)
    buttons = page.get_by_role("button").all()
    assert len(buttons) == 6
    for button in buttons:
        left, top, right, bottom = edges(button)
        assert right - left >= 44
        assert bottom - top >= 44


def test_the_esc_key_is_named_only_where_there_is_one(ask: Ask) -> None:
    touched = ask("An answer.", then="silence", **PHONE).page
    typed = ask("An answer.", then="silence").page
    assert touched.locator("#stop").inner_text() == "Stop"
    assert typed.locator("#stop").inner_text() == "StopEsc"
    for page, is_named in ((touched, False), (typed, True)):
        page.evaluate("welcome.hidden = false")
        assert ("Esc" in page.locator("#welcome").inner_text()) is is_named
        assert page.locator("#hint").is_visible() is False
        page.evaluate("document.getElementById('status').textContent = ''")
        assert page.locator("#hint").is_visible() is is_named


def test_the_button_to_the_latest_words_floats_above_the_composer(ask: Ask) -> None:
    size = {"width": 800, "height": 480}
    page = ask(ANSWER * 5, then="silence", viewport=size).page
    latest = page.locator("#latest")
    expect(latest).to_be_hidden()
    page.evaluate("scrollTo(0, 0)")
    expect(latest).to_be_visible()
    page.locator("#query").fill("\n\n\n")
    assert 0 <= edges(page.locator("#query"))[1] - edges(latest)[3] <= 24
    latest.click(trial=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_markdown(ask: Ask, scheme: str) -> None:
    tab = ask(ANSWER, then="silence", color_scheme=scheme)
    tab.has_no_violation()
    show_all_buttons(tab.page)
    tab.page.evaluate("scrollTo(0, document.body.scrollHeight)")
    tab.has_no_violation()
    tab.stop.click()
    expect(tab.answer()).to_contain_text("Stopped")
    tab.has_no_violation()


def test_a_message_and_a_mark_are_seen_in_forced_colours(ask: Ask) -> None:
    tab = ask("An answer.", then="silence", forced_colors="active")
    page = tab.page
    message = page.get_by_role("article", name="You")
    page_colour = "getComputedStyle(document.documentElement).backgroundColor"
    border = message.evaluate("each => getComputedStyle(each).borderTopColor")
    assert border != page.evaluate(page_colour)
    expect(message).to_have_css("border-top-width", "1px")
    cursor = "getComputedStyle(document.querySelector('.text p'), '::after')"
    assert page.evaluate(f"{cursor}.backgroundColor") != page.evaluate(page_colour)
    tab.stop.click()
    expect(tab.answer()).to_contain_text("Stopped")
    mark = "getComputedStyle(document.querySelector('.mark'), '::before')"
    assert page.evaluate(f"{mark}.backgroundColor") != page.evaluate(page_colour)


def test_a_button_that_is_off_and_the_composer_are_seen_in_forced_colours(
    ask: Ask,
) -> None:
    size = {"width": 800, "height": 480}
    answer = ANSWER * 5
    tab = ask(answer, then="silence", forced_colors="active", viewport=size)
    style = "each => getComputedStyle(each)"
    off = tab.send.evaluate(f"{style}.color")
    tab.query.fill("Next")
    assert tab.send.evaluate(f"{style}.color") != off
    # What is scrolled below the composer is not seen through it.
    composer = tab.page.locator("#composer")
    assert composer.evaluate(f"{style}.backgroundImage") == "none"
    page_colour = "getComputedStyle(document.documentElement).backgroundColor"
    assert composer.evaluate(f"{style}.backgroundColor") == tab.page.evaluate(
        page_colour
    )


def test_the_buttons_share_a_line_on_a_phone_and_a_table_is_not_squeezed(
    ask: Ask,
) -> None:
    row = "| 1 | some words and a few more | and some more words |\n"
    page = ask(f"| a | b | c |\n|---|---|---|\n{row}", then="silence", **PHONE).page
    page.locator("#stop > span").evaluate("each => (each.textContent = 'Stopping…')")
    stop, send = edges(page.locator("#stop")), edges(page.locator("#send"))
    assert stop[1] == send[1]
    _, top, _, bottom = edges(page.locator("td").nth(1))
    assert bottom - top < 80


def test_the_cursor_stands_behind_the_last_word(ask: Ask) -> None:
    for answer in (
        ANSWER,
        "- a\n- b",
        "- a\n\n  - b\n\n- c",
        "> said",
        "```\ncode",
        "#",
    ):
        page = ask(answer, then="silence").page
        with_cursor = page.evaluate(
            """() => [...document.querySelectorAll(".text, .text *")].filter((each) =>
              getComputedStyle(each, "::after").content !== "none"
            ).map((each) => each.textContent.trim().slice(-6))"""
        )
        assert with_cursor == ["Period"]


def test_paper_shows_the_conversation_and_no_controls(ask: Ask) -> None:
    page = ask(ANSWER, color_scheme="dark").page
    page.emulate_media(media="print", color_scheme="dark")
    for name in ("#composer", ".copy >> nth=0"):
        expect(page.locator(name)).to_be_hidden()
    expect(page.get_by_role("article", name="You")).to_be_visible()
    # Whole lines: paper cannot be scrolled.
    for code in page.locator("pre").all():
        assert code.evaluate("each => each.scrollWidth <= each.clientWidth")
    link = "getComputedStyle(document.querySelector('.text a'), '::after').content"
    assert "https://a.example" in page.evaluate(link)
    background = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
