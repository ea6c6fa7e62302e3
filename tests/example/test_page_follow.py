"""The chat page comes back to running answers: reloads, other tabs, broken networks."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from flask_chatstop.testing import wait_until
from tests.support.chat import AUTH
from tests.support.provider import Provider
from tests.support.resetting_proxy import ResettingProxy
from tests.support.servers.chat_page import (
    CHAT,
    EVENTS,
    SAID,
    STOP,
    Open,
    Tab,
    example,
)
from tests.support.servers.gunicorn import Server

UNREACHABLE = "The server cannot be reached. Trying again…"


@pytest.fixture
def network(server: Server) -> Iterator[ResettingProxy]:
    """Stand between the page and its server, and break."""
    with ResettingProxy(int(server.url.rpartition(":")[2])) as proxy:
        yield proxy


def address(network: ResettingProxy) -> str:
    return f"http://127.0.0.1:{network.port}"


def requests_of(page: Page) -> list[tuple[str, str]]:
    """Give a list of the requests that the page sends from now on."""
    found: list[tuple[str, str]] = []

    def note(request: Request) -> None:
        found.append((request.method, request.url.rpartition("/")[2]))

    page.on("request", note)
    return found


def is_as_kept(tab: Tab, number: int = 0) -> None:
    """Wait until all words of an answer are shown that the server has kept, once.

    Those of a long one are shown with more than one frame.
    """
    kept = tab.page.evaluate("fetch('/web/chat-messages').then((r) => r.json())")
    answer = kept["messages"][number]["answer"]
    expect(tab.page.locator(".text").nth(number)).to_have_text(answer.strip())


def hide(tab: Tab, is_hidden: bool) -> None:
    """Let the tab believe that it is in the background, or that it is seen again."""
    tab.page.evaluate(
        """(isHidden) => {
            Object.defineProperty(document, "hidden",
                                  { value: isHidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


# Loading again, other tabs


def test_a_running_answer_streams_on_after_a_reload_without_polling(
    tab: Tab, model: Provider
) -> None:
    model.then = "talk"
    tab.say("Hello")
    tab.grows()
    sent = requests_of(tab.page)
    tab.reload()
    expect(tab.status).to_have_text("Answering…")
    for _ in range(10):
        tab.grows()
    chat = [request for request in sent if request[1] in ("chat-messages", "events")]
    assert chat == [("GET", "chat-messages"), ("GET", "events")]
    tab.stop.click()
    expect(tab.answer()).to_contain_text("Stopped")
    is_as_kept(tab)


def test_a_message_and_its_answer_appear_in_another_tab_and_are_stopped_there(
    open_tab: Open, tab: Tab, model: Provider
) -> None:
    other = open_tab(tab.page.context)
    tab.say("Hello")
    expect(other.page.get_by_role("article", name="You")).to_have_text("Hello")
    other.streams()
    tab.streams()
    other.stop.click()
    other.is_stopped()
    tab.is_stopped()
    assert model.calls[-1].closed.wait(30)
    model.then = "end"
    other.say("Again")
    for each in (tab, other):
        expect(each.answer(1)).to_have_text(SAID.strip())
        expect(each.status).to_have_text("The answer is complete.")
        expect(each.stop).to_be_hidden()


def test_a_tab_in_the_background_holds_no_connection_and_catches_up(
    open_tab: Open, tab: Tab, model: Provider
) -> None:
    model.then = "talk"
    other = open_tab(tab.page.context)
    tab.say("Hello")
    other.grows()
    with other.page.expect_event("requestfailed") as closed:
        hide(other, True)
    assert closed.value.url.endswith("/events")

    def is_still() -> bool:
        before = other.said
        tab.grows()
        return other.said == before

    wait_until(is_still)  # what came before may have yet to be shown
    sent = requests_of(other.page)
    tab.stop.click()
    expect(tab.answer()).to_contain_text("Stopped")
    assert sent == []
    hide(other, False)
    expect(other.answer()).to_contain_text("Stopped")
    for each in (tab, other):
        is_as_kept(each)


def test_another_device_learns_of_an_answer_when_somebody_looks_at_it(
    open_tab: Open, browser: Browser, tab: Tab
) -> None:
    phone = open_tab(storage_state=tab.page.context.storage_state())
    tab.say("Hello")
    tab.streams()
    phone.page.evaluate("dispatchEvent(new Event('focus'))")
    phone.streams()
    phone.stop.click()
    phone.is_stopped()
    tab.is_stopped()


# What goes wrong


@pytest.mark.parametrize("who", ["sender", "follower"])
def test_a_broken_connection_goes_on_where_it_was_and_the_outage_is_told_once(
    open_tab: Open, network: ResettingProxy, model: Provider, who: str
) -> None:
    model.then = "talk"
    tab = open_tab(url=address(network))
    tab.say("Hello")
    tab.grows()
    if who == "follower":
        tab.reload()
        tab.grows()
    tab.page.evaluate(
        """() => {
            window.told = [];
            const look = () => {
                const texts = [...document.querySelectorAll("[role=alert], .mark")]
                    .map((each) => each.textContent).filter(Boolean);
                if (texts.join() !== told.at(-1)) told.push(texts.join());
            };
            new MutationObserver(look).observe(
                document, { subtree: true, childList: true, characterData: true });
        }"""
    )
    network.refuse()
    expect(tab.alert).to_have_text(UNREACHABLE)
    expect(tab.status).to_be_empty()
    tab.page.evaluate("dispatchEvent(new Event('focus'))")  # which asks as well
    with tab.page.expect_event("requestfailed"):
        pass
    with tab.page.expect_response(EVENTS) as again:
        network.admit()
    assert int(again.value.request.headers["last-event-id"]) > 1
    expect(tab.alert).to_be_empty()
    tab.grows()
    assert [text for text in tab.page.evaluate("told") if text] == [UNREACHABLE]
    tab.stop.click()
    expect(tab.answer()).to_contain_text("Stopped")
    is_as_kept(tab)
    tab.problems.clear()


def test_a_stop_during_an_outage_is_sent_when_the_server_is_back(
    open_tab: Open, network: ResettingProxy, model: Provider
) -> None:
    tab = open_tab(url=address(network))
    tab.say("Hello")
    tab.streams()
    network.refuse()
    tab.stop.click()
    expect(tab.alert).to_have_text(UNREACHABLE)
    expect(tab.stop).to_have_text("Stopping…Esc")
    network.admit()
    tab.is_stopped()
    assert model.calls[-1].closed.wait(30)
    tab.problems.clear()


def test_a_page_that_loads_while_the_server_is_away_shows_the_chat_later(
    tab: Tab,
) -> None:
    tab.say("Hello")
    tab.streams()
    tab.page.route(CHAT, lambda route: route.abort())
    tab.page.reload()
    expect(tab.alert).to_have_text(UNREACHABLE)
    tab.page.unroute(CHAT)
    tab.streams()
    tab.stop.click()
    tab.is_stopped()
    tab.problems.clear()


def test_a_connection_without_even_a_ping_is_taken_for_dead(
    open_tab: Open, browser: Browser, server: Server, model: Provider
) -> None:
    with browser.new_context() as context:
        context.clock.install()
        tab = open_tab(context)
        tab.say("Hello")
        tab.streams()
        with tab.page.expect_response(EVENTS) as again:
            context.clock.fast_forward(31_000)
            context.clock.run_for(1_000)
        assert again.value.status == 200
        tab.streams()
        tab.stop.click()
        tab.is_stopped()


@pytest.mark.parametrize("status", [204, 404, 503])
def test_an_answer_that_cannot_be_followed_yet_is_tried_again(
    open_tab: Open, tab: Tab, status: int
) -> None:
    tab.say("Hello")
    tab.streams()
    tab.page.context.route(EVENTS, lambda route: route.fulfill(status=status), times=2)
    other = open_tab(tab.page.context)
    other.streams()
    expect(other.alert).to_be_empty()
    other.stop.click()
    other.is_stopped()
    other.problems.clear()


def test_an_answer_that_has_ended_unseen_is_shown_as_the_server_keeps_it(
    open_tab: Open, tab: Tab
) -> None:
    tab.say("Hello")
    tab.streams()
    held: list[Route] = []
    tab.page.context.route(EVENTS, lambda route: held.append(route))
    with tab.page.context.expect_event("request", lambda it: "/events" in it.url):
        other = open_tab(tab.page.context)
    tab.stop.click()
    tab.is_stopped()
    held[0].fulfill(status=404)
    other.is_stopped()
    other.problems.clear()


def test_a_worker_that_is_killed_ends_its_answer_in_every_tab(
    open_tab: Open, browser: Browser, model: Provider, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/chatstop.db"
    settings = {"FLASK_CHATSTOP_BACKEND": store, "FLASK_CHATSTOP_LEASE": "2"}
    with (
        example(tmp_path, OPENAI_BASE_URL=model.url, **settings) as server,
        browser.new_context() as context,
    ):
        tab = open_tab(context, server.url)
        other = open_tab(context, server.url)
        tab.say("Hello")
        tab.streams()
        other.streams()
        [pid] = server.workers()
        os.kill(int(pid), signal.SIGKILL)
        for each in (tab, other):
            expect(each.answer()).to_have_text(f"{SAID}Interrupted")
            expect(each.stop).to_be_hidden()
            expect(each.alert).to_be_empty()
            each.problems.clear()


def test_a_stop_that_no_worker_hears_says_what_to_do(
    open_tab: Open, browser: Browser, model: Provider, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path}/chatstop.db"
    with (
        example(
            tmp_path, OPENAI_BASE_URL=model.url, FLASK_CHATSTOP_BACKEND=store
        ) as server,
        browser.new_context() as context,
    ):
        tab = open_tab(context, server.url)
        tab.say("Hello")
        tab.streams()
        [pid] = server.workers()
        os.kill(int(pid), signal.SIGKILL)
        tab.page.keyboard.press("Escape")
        expect(tab.status).to_contain_text("new conversation")
        tab.page.get_by_role("button", name="New conversation").click()
        expect(tab.stop).to_be_hidden()
        expect(tab.status).to_have_text("This is a new conversation.")
        tab.problems.clear()


def test_an_answer_is_followed_through_every_worker(
    open_tab: Open, browser: Browser, model: Provider, tmp_path: Path
) -> None:
    model.then = "talk"
    settings = {
        "OPENAI_BASE_URL": model.url,
        "FLASK_CHATSTOP_BACKEND": f"sqlite:///{tmp_path}/chatstop.db",
        "GUNICORN_CMD_ARGS": "--workers 3",
    }
    with example(tmp_path, **settings) as server, browser.new_context() as context:
        tab = open_tab(context, server.url)
        tab.say("Hello")
        tab.grows()
        others = [open_tab(context, server.url) for _ in range(3)]
        for each in others:
            each.grows()
        others[-1].stop.click()
        for each in (tab, *others):
            expect(each.answer()).to_contain_text("Stopped")
            is_as_kept(each)


def test_a_part_that_the_log_has_no_room_for_is_there_after_the_end(
    open_tab: Open, browser: Browser, model: Provider, tmp_path: Path
) -> None:
    model.then = "talk"
    settings = {"FLASK_CHATSTOP_EVENTS_MAX_BYTES": "2000"}
    with (
        example(tmp_path, OPENAI_BASE_URL=model.url, **settings) as server,
        browser.new_context() as context,
    ):
        tab = open_tab(context, server.url)
        tab.say("Hello")
        for _ in range(4):
            tab.grows()
        tab.reload()
        expect(tab.answer()).to_contain_text(" […] ")
        tab.stop.click()
        expect(tab.answer()).to_contain_text("Stopped")
        expect(tab.answer()).not_to_contain_text("[…]")
        is_as_kept(tab)


def test_an_answer_that_takes_too_long_is_marked_so(
    open_tab: Open, browser: Browser, model: Provider, tmp_path: Path
) -> None:
    settings = {"FLASK_CHAT_TIME_LIMIT": "3"}
    words = "Ended, because it took too long"
    with (
        example(tmp_path, OPENAI_BASE_URL=model.url, **settings) as server,
        browser.new_context() as context,
    ):
        # The first use of the model's client takes long; without a limit here.
        model.then = "end"
        body = {"query": "Hello", "user": "alice"}
        httpx.post(
            f"{server.url}/v1/chat-messages", json=body, headers=AUTH, timeout=60
        ).raise_for_status()
        model.then = "silence"
        tab = open_tab(context, server.url)
        tab.say("Hello")
        expect(tab.answer()).to_have_text(f"{SAID}{words}")
        expect(tab.status).to_have_text(f"{words}.")
        expect(tab.stop).to_be_hidden()
        tab.reload()
        expect(tab.answer()).to_have_text(f"{SAID}{words}")


def test_a_session_that_ends_while_an_answer_is_followed_is_told_once(
    open_tab: Open, tab: Tab
) -> None:
    tab.say("Hello")
    tab.streams()
    tab.page.context.route(EVENTS, lambda route: route.fulfill(status=401))
    other = open_tab(tab.page.context)
    expect(other.alert).to_contain_text("Your session is over.")
    other.problems.clear()
    with tab.page.expect_response(STOP):
        tab.stop.click()
    tab.is_stopped()
