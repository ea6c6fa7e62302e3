"""The chat page of the example, in a real browser against a real server."""

import itertools
import json
import os
import re
import signal
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.provider import TOKENS, Provider
from tests.support.servers.chat_page import CHAT, SAID, STOP, Open, Tab, example

# Sending and stopping


def test_an_answer_streams_to_its_end(tab: Tab, model: Provider) -> None:
    model.then = "end"
    tab.say("Hello")
    expect(tab.answer()).to_have_text(SAID.strip())
    expect(tab.status).to_have_text("The answer is complete.")
    expect(tab.stop).to_be_hidden()
    expect(tab.page.locator(".mark:visible")).to_have_count(0)


def test_the_button_stops_an_answer_and_the_next_message_works(
    tab: Tab, model: Provider
) -> None:
    tab.say("Hello")
    tab.streams()
    call = model.calls[-1]
    tab.stop.click()
    tab.is_stopped()
    assert call.closed.wait(30), "the model still generates"
    model.then = "end"
    tab.say("Again")
    expect(tab.answer(1)).to_have_text(SAID.strip())
    expect(tab.status).to_have_text("The answer is complete.")
    tab.is_stopped(0)


def test_esc_stops_an_answer(tab: Tab) -> None:
    tab.say("Hello")
    tab.streams()
    tab.page.keyboard.press("Escape")
    tab.is_stopped()
    expect(tab.status).to_have_text("Stopped. What was said so far is kept.")


def test_the_button_answers_before_the_server_does(tab: Tab) -> None:
    held: list[Route] = []
    tab.page.route(STOP, lambda route: held.append(route))
    tab.say("Hello")
    tab.streams()
    with tab.page.expect_request(STOP):
        seen = tab.stop.evaluate("stop => (stop.click(), stop.innerText)")
    assert seen.startswith("Stopping…")
    expect(tab.stop).to_have_attribute("aria-disabled", "true")
    tab.stop.click(force=True)
    [route] = held
    route.continue_()
    tab.is_stopped()
    assert len(held) == 1


def test_a_stop_before_the_first_word_stops(
    tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.provider.TOKENS", [])
    with tab.page.expect_response(CHAT):
        tab.say("Hello")
    tab.page.keyboard.press("Escape")
    expect(tab.answer()).to_have_text("Stopped")
    expect(tab.status).to_have_text("Stopped before anything was said.")
    expect(tab.alert).to_be_empty()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("stopped", "Stopped. The server could not save the answer."),
        ("finished", "The server could not save the answer."),
    ],
)
def test_an_answer_that_is_not_saved_is_not_said_to_be_kept(
    tab: Tab, reason: str, words: str
) -> None:
    metadata = {"end_reason": reason, "saved": False}
    events = [
        {"event": "message", "task_id": "1", "answer": "Some words."},
        {"event": "message_end", "task_id": "1", "metadata": metadata},
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    headers = {"Content-Type": "text/event-stream", "Chatstop-Task-Id": "1"}
    tab.page.route(CHAT, lambda route: route.fulfill(body=body, headers=headers))
    tab.say("Hello")
    expect(tab.answer()).to_contain_text("Some words.")
    expect(tab.status).to_have_text(words)


def test_a_stop_before_the_server_has_answered_stops_as_soon_as_it_does(
    tab: Tab,
) -> None:
    held: list[Route] = []
    tab.page.route(CHAT, lambda route: held.append(route))
    with tab.page.expect_request(CHAT):
        tab.say("Hello")
    tab.page.keyboard.press("Escape")
    expect(tab.stop).to_have_text("Stopping…Esc")
    with tab.page.expect_response(STOP) as stopped:
        held[0].continue_()
    assert stopped.value.headers["chatstop-outcome"] == "stopping"
    expect(tab.answer()).to_contain_text("Stopped")
    expect(tab.alert).to_be_empty()


# Loading again, other people


def test_the_conversation_is_there_after_a_reload(tab: Tab) -> None:
    tab.say("Hello")
    tab.streams()
    tab.stop.click()
    tab.is_stopped()
    tab.reload()
    tab.is_stopped()
    expect(tab.page.get_by_role("article", name="You")).to_have_text("Hello")


def test_an_answer_outlives_its_tab(open_tab: Open, tab: Tab) -> None:
    tab.say("Hello")
    tab.streams()
    tab.page.close()
    late = open_tab(tab.page.context)
    expect(late.answer()).to_contain_text(TOKENS[0].strip())
    late.page.keyboard.press("Escape")
    late.is_stopped()


def test_two_people_do_not_meet(open_tab: Open, tab: Tab) -> None:
    stranger = open_tab()
    with stranger.page.expect_response(CHAT) as sent:
        stranger.say("Hi")
    assert sent.value.ok
    tab.say("Hello")
    tab.streams()
    stranger.streams()
    stranger.page.keyboard.press("Escape")
    stranger.is_stopped()
    tab.streams()
    stranger.reload()
    expect(stranger.page.get_by_role("article", name="You")).to_have_text("Hi")


# What goes wrong

WHY_NOT_STOPPED = {
    401: "Your session is over. Load the page again to begin a new one.",
    403: "Your session is over. Load the page again to begin a new one.",
    404: "The server does not know this answer any more.",
    503: "The server cannot stop answers at the moment. Try again.",
    500: "The answer could not be stopped (error 500). Try again.",
}


def fail_once(page: Page, url: str, status: int | None) -> None:
    """Have the next POST answered with an error, or with nothing at all."""

    posts = itertools.count()

    def fail(route: Route) -> None:
        if route.request.method != "POST" or next(posts):
            route.continue_()
        elif status is None:
            route.abort()
        else:
            route.fulfill(status=status, json={})

    page.route(url, fail)


def test_a_stop_that_fails_is_told_in_plain_words_and_can_be_repeated(tab: Tab) -> None:
    tab.say("Hello")
    tab.streams()
    for status, words in WHY_NOT_STOPPED.items():
        fail_once(tab.page, STOP, status)
        tab.stop.click()
        expect(tab.alert).to_have_text(words)
        tab.streams()
    tab.stop.click()
    tab.is_stopped()
    assert all("Failed to load resource" in problem for problem in tab.problems)
    tab.problems.clear()


def test_a_stop_that_does_not_reach_the_server_is_sent_again(tab: Tab) -> None:
    tab.say("Hello")
    tab.streams()
    fail_once(tab.page, STOP, None)
    tab.stop.click()
    tab.is_stopped()
    tab.problems.clear()


def test_a_message_whose_answer_got_lost_is_not_sent_twice(tab: Tab) -> None:
    cookies = {each["name"]: each["value"] for each in tab.page.context.cookies()}

    def lose_the_answer(route: Route) -> None:
        if route.request.method != "POST":
            route.continue_()
            return
        url, body = route.request.url, route.request.post_data_json
        with httpx.stream("POST", url, json=body, cookies=cookies, timeout=30) as sent:
            sent.raise_for_status()  # the server has taken it
        route.abort()

    tab.page.route(CHAT, lose_the_answer)
    tab.say("Hello")
    tab.streams()
    expect(tab.query).to_be_empty()
    expect(tab.page.get_by_role("article", name="You")).to_have_count(1)
    tab.stop.click()
    tab.is_stopped()
    tab.problems.clear()


@pytest.mark.parametrize("gone", [True, False])
def test_a_message_that_was_not_sent_comes_back(tab: Tab, gone: bool) -> None:
    fail_once(tab.page, CHAT, None if gone else 500)
    tab.say("Hello")
    expect(tab.alert).to_contain_text("was not sent" if gone else "error 500")
    expect(tab.query).to_have_value("Hello")
    expect(tab.answer()).to_have_count(0)
    expect(tab.page.locator("#welcome")).to_be_visible()
    tab.query.press("Enter")
    tab.streams()
    expect(tab.alert).to_be_empty()
    tab.problems.clear()


def test_a_session_that_is_over_is_told_in_plain_words(tab: Tab) -> None:
    # An answer that is still under way would bring the cookie back.
    tab.page.wait_for_load_state("networkidle")
    tab.page.context.clear_cookies()
    tab.say("Hello")
    expect(tab.alert).to_contain_text("Your session is over.")
    expect(tab.query).to_have_value("Hello")
    tab.problems.clear()


def test_an_answer_whose_model_fails_is_marked(tab: Tab, model: Provider) -> None:
    model.then = "crash"
    tab.say("Hello")
    expect(tab.answer()).to_have_text(f"{SAID}The answer could not be completed")
    expect(tab.status).to_have_text("The answer could not be completed.")
    tab.reload()
    expect(tab.answer()).to_have_text(f"{SAID}The answer could not be completed")


def test_a_worker_that_is_killed_leaves_what_was_said(
    browser: Browser, model: Provider, tmp_path: Path
) -> None:
    with (
        example(tmp_path, OPENAI_BASE_URL=model.url) as server,
        browser.new_context() as context,
    ):
        tab = Tab(context, server.url)
        tab.say("Hello")
        tab.streams()
        [pid] = re.findall(r"Booting worker with pid: (\d+)", server.log.read_text())
        with tab.page.expect_response(CHAT):
            os.kill(int(pid), signal.SIGKILL)
        tab.page.keyboard.press("Escape")
        expect(tab.answer()).to_have_text(f"{SAID}Interrupted")
        model.then = "end"
        tab.say("Again")
        expect(tab.answer(1)).to_have_text(SAID.strip())


def test_what_is_said_is_text_and_never_markup(
    tab: Tab, model: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    markup = "<img src=x onerror=alert(1)><b>Zoë 🛑</b>"
    monkeypatch.setattr("tests.support.provider.TOKENS", [markup])
    model.then = "end"
    tab.say(markup)
    expect(tab.answer()).to_have_text(markup)
    expect(tab.page.get_by_role("article", name="You")).to_have_text(markup)
    tab.reload()
    expect(tab.answer()).to_have_text(markup)


def test_events_are_read_however_their_bytes_arrive(tab: Tab) -> None:
    stream = (
        ": a comment\n\n"
        'data: {"answer":"Zoë 🛑"}\n\n'
        "event: ping\n\n"
        "event: other\r\ndata: two\r\ndata:lines\r\n\r\n"
        "data\rid: 1\r\r"
        "id: 2\n\n"
        "data: cut off\n"
    )
    found = tab.page.evaluate(
        """async (text) => {
          const { readEvents } = await import("/page/sse.js");
          const bytes = new TextEncoder().encode(text);
          const found = [];
          for (const size of [1, 2, 3, 7, bytes.length]) {
            const body = new ReadableStream({
              start(controller) {
                for (let at = 0; at < bytes.length; at += size)
                  controller.enqueue(bytes.slice(at, at + size));
                controller.close();
              },
            });
            const events = [];
            for await (const event of readEvents(body)) events.push(event);
            found.push(events);
          }
          return found;
        }""",
        stream,
    )
    expected = [
        {"type": "message", "data": '{"answer":"Zoë 🛑"}', "id": ""},
        {"type": "other", "data": "two\nlines", "id": ""},
        {"type": "message", "data": "", "id": "1"},
    ]
    assert found == [expected] * 5


# For everybody


def test_it_is_used_by_keyboard_alone(tab: Tab) -> None:
    expect(tab.query).to_be_focused()
    tab.page.keyboard.type("Two")
    tab.page.keyboard.press("Shift+Enter")
    tab.page.keyboard.type("lines")
    expect(tab.query).to_have_value("Two\nlines")
    tab.page.keyboard.press("Tab")
    expect(tab.send).to_be_focused()
    tab.page.keyboard.press("Enter")
    tab.streams()
    expect(tab.query).to_be_focused()
    tab.page.keyboard.press("Tab")
    expect(tab.stop).to_be_focused()
    assert tab.stop.evaluate("stop => getComputedStyle(stop).outlineStyle") == "solid"
    tab.page.keyboard.press("Enter")
    tab.is_stopped()
    expect(tab.query).to_be_focused()


def test_a_screen_reader_hears_the_states_and_not_every_word(tab: Tab) -> None:
    expect(tab.page.get_by_role("log")).to_have_attribute("aria-live", "off")
    tab.say("Hello")
    expect(tab.status).to_have_text("Answering…")
    tab.streams()
    tab.page.keyboard.press("Escape")
    expect(tab.status).to_have_text("Stopped. What was said so far is kept.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_idle_streaming_or_stopped(
    open_tab: Open, scheme: str
) -> None:
    tab = open_tab(color_scheme=scheme)
    tab.has_no_violation()
    tab.say("Long\n" * 60)
    tab.streams()
    tab.query.fill("Impatient")
    tab.page.evaluate("scrollTo(0, 0)")
    expect(tab.page.get_by_role("button", name="Jump to latest")).to_be_visible()
    tab.has_no_violation()
    tab.stop.click()
    tab.is_stopped()
    tab.has_no_violation()
    brightness = tab.page.evaluate(
        "getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/g)"
    )
    assert (int(brightness[0]) < 64) is (scheme == "dark")


def test_it_fits_a_phone(open_tab: Open) -> None:
    tab = open_tab(viewport={"width": 360, "height": 640}, has_touch=True)

    def fits() -> None:
        width = tab.page.evaluate("document.documentElement.scrollWidth")
        assert width == 360
        for button in tab.page.get_by_role("button").all():
            box = button.bounding_box()
            assert box is None or (box["height"] >= 40 and box["width"] >= 40)

    fits()
    tab.say("Unbreakable" * 20)
    tab.streams()
    fits()
    tab.stop.tap()
    tab.is_stopped()
    fits()


def test_nothing_moves_for_those_who_want_it_so(open_tab: Open) -> None:
    tab = open_tab(reduced_motion="reduce")
    tab.say("Hello")
    tab.streams()
    animation = tab.page.evaluate(
        "getComputedStyle(document.querySelector('.text'), '::after').animationName"
    )
    assert animation == "none"
