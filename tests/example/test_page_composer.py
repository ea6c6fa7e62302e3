"""What is written, stopped and scrolled on the chat page."""

import pytest
from playwright.sync_api import Route, expect

from tests.support.provider import TOKENS, Provider
from tests.support.servers.chat_page import CHAT, SAID, STOP, Open, Tab

LONG = "A line of the answer.\n" * 60


def is_at_end(tab: Tab) -> None:
    tab.until("innerHeight + scrollY >= document.documentElement.scrollHeight - 2")


# Stop, and stop and send


def test_button_keys_and_status_agree_on_what_runs(tab: Tab, model: Provider) -> None:
    expect(tab.send).to_have_text("Send")
    expect(tab.stop).to_be_hidden()
    expect(tab.status).to_be_empty()
    tab.say("Hello")
    tab.streams()
    expect(tab.status).to_have_text("Answering…")
    expect(tab.send).to_have_text("Stop and send")
    expect(tab.send).to_have_attribute("aria-disabled", "true")
    tab.query.press("Enter")
    tab.streams()
    tab.query.fill("Impatient")
    expect(tab.send).to_have_attribute("aria-disabled", "false")
    tab.page.keyboard.press("Escape")
    tab.is_stopped()
    expect(tab.send).to_have_text("Send")
    expect(tab.query).to_have_value("Impatient")
    expect(tab.page.get_by_role("article", name="You")).to_have_count(1)


@pytest.mark.parametrize("by", ["button", "Enter"])
@pytest.mark.parametrize("where", ["sender", "other tab"])
def test_stop_and_send_stops_the_answer_and_then_sends(
    open_tab: Open, tab: Tab, model: Provider, by: str, where: str
) -> None:
    tab.say("Hello")
    tab.streams()
    writer = tab if where == "sender" else open_tab(tab.page.context)
    writer.streams()
    call = model.calls[-1]
    order: list[str] = []
    writer.page.on(
        "request",
        lambda request: (
            order.append(request.url.rpartition("/")[2])
            if request.method == "POST"
            else None
        ),
    )
    held: list[Route] = []
    writer.page.route(STOP, lambda route: held.append(route), times=1)
    writer.query.fill("Impatient")
    with writer.page.expect_request(STOP):
        if by == "button":
            writer.send.click()
        else:
            writer.query.press("Enter")
    expect(writer.status).to_contain_text("Stopping…")  # and more, after a while
    expect(writer.stop).to_have_text("Stopping…Esc")
    expect(writer.send).to_have_attribute("aria-disabled", "true")
    expect(writer.query).to_have_value("Impatient")
    held[0].continue_()
    for each in (tab, writer):
        expect(each.answer(0)).to_have_text(f"{SAID}Stopped")
        each.streams(1)
    expect(writer.query).to_be_empty()
    assert order == ["stop", "chat-messages"]
    assert call.closed.wait(30)
    tab.stop.click()
    tab.is_stopped(1)


def test_stop_and_send_sends_nothing_if_the_stop_fails(tab: Tab) -> None:
    tab.say("Hello")
    tab.streams()
    tab.page.route(STOP, lambda route: route.fulfill(status=503, json={}), times=1)
    tab.say("Impatient")
    expect(tab.alert).to_contain_text("cannot stop answers at the moment")
    tab.streams()
    tab.page.keyboard.press("Escape")
    tab.is_stopped()
    expect(tab.query).to_have_value("Impatient")
    expect(tab.page.get_by_role("article", name="You")).to_have_count(1)
    tab.problems.clear()


def test_a_stop_before_the_first_event_reaches_the_new_task(tab: Tab) -> None:
    tab.say("Hello")
    tab.streams()
    with tab.page.expect_request(STOP) as first:
        tab.stop.click()
    tab.is_stopped()
    held: list[Route] = []
    tab.page.route(CHAT, lambda route: held.append(route))
    with tab.page.expect_request(CHAT):
        tab.say("Again")
    tab.page.keyboard.press("Escape")
    expect(tab.stop).to_have_text("Stopping…Esc")
    with (
        tab.page.expect_response(CHAT) as sent,
        tab.page.expect_response(STOP) as stopped,
    ):
        held[0].continue_()
    task_id = sent.value.headers["chatstop-task-id"]
    assert f"/{task_id}/" in stopped.value.url != first.value.url
    expect(tab.answer(1)).to_contain_text("Stopped")
    expect(tab.stop).to_be_hidden()


# The draft


def test_a_draft_survives_a_reload_until_it_is_sent(tab: Tab) -> None:
    tab.query.fill("Half a thou")
    tab.reload()
    expect(tab.query).to_have_value("Half a thou")
    tab.query.press("Enter")
    tab.streams()
    tab.reload()
    expect(tab.query).to_be_empty()
    tab.stop.click()
    tab.is_stopped()


def test_a_message_that_was_not_sent_is_a_draft_again(tab: Tab) -> None:
    tab.page.route(CHAT, lambda route: route.fulfill(status=500, json={}), times=1)
    tab.say("Hello")
    expect(tab.alert).to_contain_text("error 500")
    tab.reload()
    expect(tab.query).to_have_value("Hello")
    tab.problems.clear()


# A new conversation


def test_a_new_conversation_is_empty_in_every_tab_and_after_a_reload(
    open_tab: Open, tab: Tab, model: Provider
) -> None:
    other = open_tab(tab.page.context)
    button = tab.page.get_by_role("button", name="New conversation")
    expect(button).to_be_hidden()
    model.then = "end"
    tab.say("Hello")
    expect(other.answer()).to_have_text(SAID.strip())
    tab.query.fill("A draft")
    button.click()
    for each in (tab, other):
        expect(each.answer()).to_have_count(0)
        expect(each.page.locator("#welcome")).to_be_visible()
    expect(tab.status).to_have_text("This is a new conversation.")
    expect(tab.query).to_be_focused()
    expect(tab.query).to_have_value("A draft")
    tab.reload()
    expect(tab.answer()).to_have_count(0)
    tab.query.press("Enter")
    for each in (tab, other):
        expect(each.answer()).to_have_text(SAID.strip())


def test_a_new_conversation_stops_the_answer_of_the_old_one(
    tab: Tab, model: Provider
) -> None:
    tab.say("Hello")
    tab.streams()
    call = model.calls[-1]
    tab.page.get_by_role("button", name="New conversation").click()
    assert call.closed.wait(30), "the model still generates"
    expect(tab.answer()).to_have_count(0)
    expect(tab.stop).to_be_hidden()
    expect(tab.status).to_have_text("This is a new conversation.")


@pytest.mark.parametrize("then", ["silence", "end"])
def test_a_message_right_after_new_conversation_is_the_first_one_of_it(
    tab: Tab, model: Provider, then: str
) -> None:
    model.then = then
    tab.say("Hello")
    expect(tab.answer()).to_have_text(SAID.strip())
    if then == "end":
        expect(tab.send).to_have_text("Send")
    model.then = "end"
    held: list[Route] = []
    tab.page.route(STOP, lambda route: held.append(route))
    tab.page.route("**/web/conversations", lambda route: held.append(route))
    with tab.page.expect_request("**/web/conversations"):
        tab.page.get_by_role("button", name="New conversation").click()
    tab.say("Again")
    with tab.page.expect_response(CHAT):
        held[0].continue_()
    expect(tab.page.get_by_role("article", name="You")).to_have_text("Again")
    expect(tab.answer()).to_have_text(SAID.strip())
    expect(tab.status).to_have_text("The answer is complete.")
    expect(tab.query).to_be_empty()
    expect(tab.alert).to_be_empty()


def phone_beside(tab: Tab, open_tab: Open, model: Provider) -> Tab:
    """Say something in a tab, and open the conversation on another device."""
    model.then = "end"
    tab.say("Hello")
    expect(tab.answer()).to_have_text(SAID.strip())
    return open_tab(storage_state=tab.page.context.storage_state())


def begin_another(tab: Tab) -> None:
    """Begin a new conversation, and wait until the answers of the old one are gone."""
    tab.page.get_by_role("button", name="New conversation").click()
    expect(tab.answer()).to_have_count(0)


def test_a_message_does_not_get_into_a_conversation_that_is_not_shown(
    open_tab: Open, tab: Tab, model: Provider
) -> None:
    phone = phone_beside(tab, open_tab, model)
    begin_another(phone)
    tab.say("For the old one")
    expect(tab.alert).to_contain_text("another conversation, begun elsewhere")
    expect(tab.answer()).to_have_count(0)
    expect(tab.query).to_have_value("For the old one")
    tab.problems.clear()


def test_a_message_on_its_way_does_not_disturb_a_conversation_begun_elsewhere(
    open_tab: Open, tab: Tab, model: Provider
) -> None:
    phone = phone_beside(tab, open_tab, model)
    held: list[Route] = []
    tab.page.route(
        CHAT,
        lambda route: (
            held.append(route) if route.request.method == "POST" else route.continue_()
        ),
    )
    with tab.page.expect_request(CHAT):
        tab.say("For the old one")
    begin_another(phone)
    phone.say("For the new one")
    expect(phone.answer()).to_have_text(SAID.strip())
    with tab.page.expect_response(CHAT):
        tab.page.evaluate("dispatchEvent(new Event('focus'))")
    held[0].continue_()
    expect(tab.alert).to_contain_text("another conversation, begun elsewhere")
    expect(tab.page.get_by_role("article", name="You")).to_have_text("For the new one")
    expect(tab.answer()).to_have_text(SAID.strip())
    tab.problems.clear()


def test_a_new_conversation_that_fails_changes_nothing(tab: Tab) -> None:
    tab.say("Hello")
    tab.streams()
    url = "**/web/conversations"
    tab.page.route(url, lambda route: route.fulfill(status=503, json={}), times=1)
    tab.page.get_by_role("button", name="New conversation").click()
    expect(tab.alert).to_contain_text("cannot stop the answer at the moment")
    tab.streams()
    tab.stop.click()
    tab.is_stopped()
    tab.problems.clear()


# Scrolling


def test_a_reload_opens_the_chat_at_the_newest_message(
    tab: Tab, model: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.provider.TOKENS", [LONG])
    model.then = "end"
    tab.say("Hello")
    expect(tab.status).to_have_text("The answer is complete.")
    is_at_end(tab)
    tab.page.evaluate("scrollTo(0, 0)")
    tab.until("scrollY === 0")
    tab.reload()
    expect(tab.answer()).to_contain_text("A line")  # an empty page is at its end, too
    is_at_end(tab)
    assert tab.page.evaluate("scrollY") > 0


def test_the_way_to_the_latest_words_is_offered_while_an_answer_streams_above(
    tab: Tab, model: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.provider.TOKENS", [LONG, *TOKENS])
    model.then = "talk"
    latest = tab.page.get_by_role("button", name="Jump to latest")
    tab.say("Hello")
    tab.grows()
    is_at_end(tab)
    expect(latest).to_be_hidden()
    tab.page.mouse.move(200, 200)
    tab.page.mouse.wheel(0, -600)
    expect(latest).to_be_visible()
    before = tab.page.evaluate("scrollY")
    tab.grows()
    assert tab.page.evaluate("scrollY") == before
    latest.click()
    is_at_end(tab)
    expect(latest).to_be_hidden()
    for _ in range(20):
        tab.grows()
    is_at_end(tab)
    tab.page.mouse.wheel(0, -600)
    expect(latest).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(tab.status).to_have_text("Stopped. What was said so far is kept.")
    expect(latest).to_be_hidden()
