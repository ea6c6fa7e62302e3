"""The Markdown of answers on the chat page, in a real browser."""

from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.example.conftest import Ask
from tests.support.servers.chat_page import Tab

#: Shows the beginning of an answer, which view.show() makes longer.
BEGIN = """async (text) => {
  const { AnswerView } = await import("/page/answer.js");
  const box = document.createElement("div");
  box.className = "text";
  box.id = "grown";
  document.querySelector("main").prepend(box);
  window.view = new AnswerView(box);
  window.view.show(text);
}"""


@pytest.fixture
def page(ask: Ask) -> Page:
    return ask("An answer.").page


def begun(page: Page, text: str) -> Locator:
    """Show the beginning of an answer, and give what shows it."""
    page.evaluate(BEGIN, text)
    box = page.locator("#grown")
    expect(box).not_to_be_empty()
    return box


def grow(page: Page, text: str) -> None:
    """Show more of the answer that has begun."""
    page.evaluate("text => view.show(text)", text)


def shown(tab: Tab) -> Locator:
    return tab.answer().locator(".text")


def test_the_markdown_of_an_answer_is_shown_as_what_it_means(ask: Ask) -> None:
    answer = (
        "# Title\n\nSome **bold** words and `code`, H<sub>2</sub>O,\nand a line.\n\n"
        "3. three\n4. four\n\n| a | b |\n|---|--:|\n| c | d |\n\n> said\n\n"
        "- [x] done\n\n~~gone~~"
    )
    text = shown(ask(answer))
    expect(text.get_by_role("heading", level=2)).to_have_text("Title")
    expect(text.locator("strong")).to_have_text("bold")
    expect(text.locator("code")).to_have_text("code")
    expect(text.locator("sub")).to_have_text("2")
    expect(text.locator("ol[start='3'] > li")).to_have_text(["three", "four"])
    expect(text.get_by_role("columnheader")).to_have_text(["a", "b"])
    expect(text.locator("td").nth(1)).to_have_css("text-align", "end")
    expect(text.locator("blockquote")).to_have_text("said")
    expect(text.locator("ul > li")).to_have_text("☑ done")
    expect(text.locator("del")).to_have_text("gone")
    # A model's line break is meant as one.
    assert "O,\nand a line." in text.inner_text()


def test_a_message_is_plain_text(ask: Ask) -> None:
    tab = ask("An answer.")
    tab.say("**Not** bold\n- no list")
    message = tab.page.get_by_role("article", name="You").nth(1)
    assert message.inner_text() == "**Not** bold\n- no list"


def test_markdown_is_there_again_after_a_reload(ask: Ask) -> None:
    tab = ask("Some **bold** words.")
    tab.reload()
    expect(shown(tab).locator("strong")).to_have_text("bold")


def test_no_level_of_headings_is_left_out(page: Page) -> None:
    answer = "### A\n\n##### B\n\n### C\n\n## D\n\ntext\n\n#### E\n\n# F"
    headings = begun(page, answer).get_by_role("heading")
    grow(page, f"{answer}\n\n## G")
    expect(headings).to_have_count(7)
    names = headings.evaluate_all("all => all.map(each => each.tagName).join(' ')")
    assert names == "H2 H3 H2 H2 H3 H2 H3"


def test_a_link_opens_another_tab_and_tells_it_nothing(ask: Ask) -> None:
    tab = ask(
        "See [the page](https://a.example/x) or https://b.example and <m@c.example>."
    )
    links = shown(tab).get_by_role("link")
    expect(links).to_have_text(["the page", "https://b.example", "m@c.example"])
    for link in links.all():
        expect(link).to_have_attribute("target", "_blank")
        expect(link).to_have_attribute("rel", "noopener noreferrer")


def test_a_link_may_stand_above_its_definition(ask: Ask) -> None:
    text = shown(ask("See [the page][1].\n\nMore.\n\n[1]: https://a.example/x\n\nEnd."))
    expect(text.get_by_role("link")).to_have_attribute("href", "https://a.example/x")


def test_a_link_that_leads_nowhere_does_not_look_like_one(ask: Ask) -> None:
    text = shown(ask("See [the *page*](javascript:pwn()) and <vbscript:x>."))
    expect(text.locator("p")).to_contain_text("See the page and vbscript:x.")
    expect(text.locator("em")).to_have_text("page")
    expect(text.locator("a")).to_have_count(0)


def test_an_image_is_a_link_and_is_not_loaded(ask: Ask) -> None:
    asked: list[str] = []
    tab = ask("Start.")
    tab.page.on("request", lambda request: asked.append(request.url))
    text = begun(
        tab.page,
        "![A chart](https://a.example/x.png) ![](https://a.example/y.png)"
        " [![Badge](https://a.example/z.png)](https://b.example)",
    )
    expect(text.locator("img")).to_have_count(0)
    expect(text.get_by_role("link")).to_have_text(
        ["Image: A chart", "Image: https://a.example/y.png", "Image: Badge"]
    )
    expect(text.get_by_role("link").last).to_have_attribute("href", "https://b.example")
    assert [url for url in asked if ".example" in url] == []


# What must not happen

ATTACKS = [
    "<script>pwn()</script>",
    "<script src=/page/chat.js></script>",
    "<img src=x onerror=pwn()>",
    "<img src='x' onerror='pwn()' />\n\n<b onmouseover=pwn()>b</b>",
    "<svg onload=pwn()><script>pwn()</script></svg>",
    "<svg><animate onbegin=pwn() attributeName=x dur=1s>",
    '<svg></p><style><a id="</style><img src=1 onerror=pwn()>">',
    "<iframe srcdoc='<script>parent.pwn()</script>'></iframe>",
    "<iframe src=javascript:parent.pwn()></iframe>",
    "<object data='data:text/html,<script>pwn()</script>'></object>",
    "<form action=/web/chat-messages method=post><button>x</button></form>",
    "<base href=//evil.example/><a href=x>x</a>",
    "<meta http-equiv=refresh content='0;url=javascript:pwn()'>",
    "<style>@import url(//evil.example/x.css); body{display:none}</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<details open ontoggle=pwn()>x</details>",
    "<input autofocus onfocus=pwn()>",
    "<video><source onerror=pwn()></video>",
    "<sub onmouseover=pwn() autofocus tabindex=1 onfocus=pwn()>x</sub>",
    "<sub\nonfocus=pwn()\ntabindex=1 autofocus>x</sub>",
    "[x](javascript:pwn())",
    "[x](JaVaScRiPt:pwn())",
    "[x](java&#10;script:pwn())",
    "[x](&#x6A;avascript:pwn())",
    "[x](\x01javascript:pwn())",
    "[x](vbscript:pwn)",
    "[x](data:text/html,<script>pwn()</script>)",
    "[x](/web/chat-messages)",
    "[x](//evil.example)",
    "[x]: javascript:pwn()\n\n[x]",
    "<javascript:pwn()>",
    "![x](javascript:pwn())",
    "![x](data:image/svg+xml,<svg/onload=pwn()>)",
    '![x](https://evil.example/x.png"onerror="pwn())',
    '![x" onerror="pwn()](x)',
    "[x](https://a.example \"x' onmouseover='pwn()\")",
    '[x](https://a.example "\\" onmouseover=\\"pwn()")',
    '```"><img src=x onerror=pwn()>\nx\n```',
    "```html\n<img src=x onerror=pwn()>\n```",
    "`<img src=x onerror=pwn()>`",
    "&lt;img src=x onerror=pwn()&gt;",
    "| <img src=x onerror=pwn()> |\n|---|\n| <script>pwn()</script> |",
    '<noscript><p title="</noscript><img src=x onerror=pwn()>">',
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;'
    '&lt;img src=1 onerror=pwn()&gt;">',
    '<form><math><mtext></form><form><mglyph><svg><mtext><style><path id="</style>'
    '<img onerror=pwn() src>">',
    "<!--><img src=x onerror=pwn()>-->",
    "<![CDATA[><img src=x onerror=pwn()>]]>",
    "<?x ><img src=x onerror=pwn()>?>",
    '<a href="javascript:pwn()">x</a>',
    "<kbd><script>pwn()</script></kbd>",
    "<template shadowrootmode=open><img src=x onerror=pwn()></template>",
    "<img name=getElementById><form id=log name=querySelector>",
    "[constructor] [__proto__] [toString]",
]

PWN = "void (window.pwn = () => (window.pwned = ['pwned']))"
TAGS = """a blockquote br button code del div em h2 h3 h4 h5 h6 hr kbd li mark ol p pre
    span strong sub sup table tbody td th thead tr u ul"""
ATTRIBUTES = "align aria-label aria-live class href rel role start tabindex target type"
HARM = """(box, [tags, attributes]) => [...box.querySelectorAll("*")].filter((each) =>
  !tags.includes(each.localName)
  || each.getAttributeNames().some((name) => !attributes.includes(name))
  || (each.hasAttribute("href") && !/^(https?|mailto):/.test(each.href))
  || (each.hasAttribute("href") && each.origin === location.origin)
).map((each) => each.outerHTML)"""


def harm_of(page: Page, box: str) -> Any:
    """Give what is in a part of the page and could do harm, or has done some."""
    page.locator(box).get_by_role("link").evaluate_all(
        "links => links.forEach((link) => link.focus())"
    )
    # What was put in has had its first events by the end of a frame.
    page.evaluate(
        "() => new Promise((go) => requestAnimationFrame(() => setTimeout(go)))"
    )
    found = page.locator(box).evaluate(HARM, [TAGS.split(), ATTRIBUTES.split()])
    return [*found, *page.evaluate("window.pwned ?? []")]


@pytest.mark.parametrize("bypass_csp", [False, True])
def test_no_answer_does_harm_to_its_page(ask: Ask, bypass_csp: bool) -> None:
    tab = ask("\n\n".join(ATTACKS[:3]), bypass_csp=bypass_csp)
    tab.page.evaluate(PWN)
    assert harm_of(tab.page, ".text >> nth=0") == []
    for attack in ATTACKS:
        # Each beginning is shown at some time while it streams.
        beginnings = [attack[:end] for end in range(1, len(attack) + 1)]
        tab.page.evaluate(
            """async (texts) => {
              const { AnswerView } = await import("/page/answer.js");
              document.querySelector("#grown")?.remove();
              const box = document.createElement("div");
              box.id = "grown";
              document.querySelector("main").prepend(box);
              for (const text of texts) new AnswerView(box).finish(text);
            }""",
            [*beginnings, f"Before\n\n{attack}\n\nAfter"],
        )
        assert harm_of(tab.page, "#grown") == [], attack
    expect(tab.page).to_have_title("Chat")


def test_markup_that_gets_past_the_parser_is_sanitized(ask: Ask) -> None:
    # The policy would report the markup that is only looked through.
    page = ask("An answer.", bypass_csp=True).page
    page.evaluate(PWN)
    page.evaluate(
        """async (attacks) => {
          const { purify } = await import("/page/markdown.js");
          const box = document.createElement("div");
          box.id = "grown";
          document.querySelector("main").prepend(box);
          for (const attack of attacks) box.append(purify(attack));
        }""",
        ATTACKS,
    )
    assert harm_of(page, "#grown") == []


def test_html_in_an_answer_is_shown_and_no_word_is_lost(ask: Ask) -> None:
    html = "Put <b onclick=x>it</b> into a <button> like <kbd>Esc</kbd> & go."
    text = shown(
        ask(f"{html}\n\n<div>\n  <p>A *block*</p>\n</div>\n\n<think>Hm</think>")
    )
    expect(text.locator("p").first).to_have_text(html.replace("<kbd>Esc</kbd>", "Esc"))
    expect(text).to_contain_text("<div> <p>A *block*</p></div><think>Hm</think>")


def test_quotes_in_quotes_without_end_are_shown_as_they_are(page: Page) -> None:
    text = "> " * 20_000
    expect(begun(page, f"{text}x")).to_contain_text("> > > >")


# Code


def copy_button(tab: Tab) -> Locator:
    """Give the button of some code, which notes what it says next for a moment."""
    button = shown(tab).get_by_role("button")
    expect(button).to_have_text("Copy code")
    button.evaluate(
        """each => new MutationObserver(
          () => (each.dataset.said ??= each.textContent)
        ).observe(each, { childList: true })"""
    )
    return button


def test_code_is_copied_by_its_button(ask: Ask) -> None:
    code = "if a < b:\n    print('<b>')"
    tab = ask(f"Do this:\n\n```python\n{code}\n```\n\nGood.")
    tab.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    expect(shown(tab).locator(".code")).to_contain_text("python")
    button = copy_button(tab)
    button.click()
    expect(button).to_have_attribute("data-said", "Copied")
    expect(button).to_have_attribute("aria-live", "polite")
    assert tab.page.evaluate("navigator.clipboard.readText()") == code
    expect(button).to_have_text("Copy code")


def test_code_is_copied_where_the_browser_has_no_clipboard(ask: Ask) -> None:
    tab = ask("```\none\n  two\n```\n\n")
    # As over plain HTTP from another host.
    tab.page.evaluate(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined})"
    )
    button = copy_button(tab)
    button.press("Enter")
    expect(button).to_have_attribute("data-said", "Copied")
    tab.query.press("Control+v")
    assert tab.query.input_value().rstrip() == "one\n  two"


def test_code_that_cannot_be_copied_is_selected(ask: Ask) -> None:
    tab = ask("```\none\n```\n\n")
    tab.page.evaluate(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
        "document.execCommand = () => false"
    )
    button = copy_button(tab)
    button.click()
    expect(button).to_have_attribute("data-said", "Press Ctrl+C")
    assert tab.page.evaluate("getSelection().toString()").strip() == "one"


@pytest.mark.parametrize("beginning", ["```", "```py", "~~~~js"])
def test_code_that_still_streams_is_code(ask: Ask, beginning: str) -> None:
    tab = ask(f"Do:\n\n{beginning}\nif **a** < b:\n", then="silence")
    expect(shown(tab).locator("pre > code")).to_have_text("if **a** < b: Period")
    expect(shown(tab).get_by_role("button", name="Copy code")).to_be_visible()
    tab.stop.click()
    expect(tab.answer()).to_contain_text("Stopped")
    expect(shown(tab).locator("pre > code")).to_contain_text("if **a** < b:")


# While it streams


def test_what_is_selected_stays_selected_while_an_answer_grows(page: Page) -> None:
    beginning = "First *part*.\n\nSecond"
    for selector, words in [("p >> nth=0", "First part."), ("p >> nth=1", "Second")]:
        text = begun(page, beginning)
        text.locator(selector).evaluate(
            "each => getSelection().selectAllChildren(each)"
        )
        grow(page, f"{beginning} part.\n\n- third")
        expect(text.locator("li")).to_have_text("third")
        assert page.evaluate("getSelection().toString()").startswith(words)
        text.evaluate("each => each.remove()")


def test_code_stays_where_it_is_scrolled_and_its_button_focused(page: Page) -> None:
    line = "```\n" + "word " * 200
    text = begun(page, line)
    pre, button = text.locator("pre"), text.get_by_role("button")
    pre.evaluate("pre => pre.scrollTo(300, 0)")
    button.focus()
    grow(page, f"{line}\nmore\n")
    expect(pre).to_contain_text("more")
    assert pre.evaluate("pre => pre.scrollLeft") == 300
    expect(button).to_be_focused()


def test_a_line_is_no_heading_while_a_list_begins_below_it(page: Page) -> None:
    text = begun(page, "Some words:\n-")
    expect(text.locator("p")).to_have_text("Some words:")
    page.evaluate("text => view.finish(text)", "Some words:\n-")
    expect(text.get_by_role("heading")).to_have_text("Some words:")


def test_an_answer_that_grows_is_the_same_as_one_that_is_there_at_once(
    page: Page,
) -> None:
    answer = (
        "# A\r\n\r\ntext\r\n[l]: https://a.example\r\n\n- a\n\n- b\n  1. c\n\n"
        "      code\n\n| a |\n|---|\n| [l] |\n\n[l]: https://b.example\n\n"
        "    code\n\n    more\n"
        "> q\nlazy\n\n***\n\n```\nx\n\n```\nText\n===\n<div>\n\nHi\n</div>\n\n[l]\n\n\n"
    )
    same = page.evaluate(
        """async (answer) => {
          const { AnswerView } = await import("/page/answer.js");
          const boxes = [document.createElement("div"), document.createElement("div")];
          const [grown, whole] = boxes.map((box) => new AnswerView(box));
          for (let end = 1; end < answer.length; end++) {
            grown.show(answer.slice(0, end));
            await new Promise(requestAnimationFrame);
          }
          grown.finish(answer);
          whole.finish(answer);
          return boxes.map((box) => box.innerHTML);
        }""",
        answer,
    )
    assert same[0] == same[1]
    assert same[1].count("<li>") == 3


#: Shows a text slice by slice; gives how many characters each slice has shown, and how
#: long it took.
SLICES = """async (text) => {
  const { Growth } = await import("/page/growth.js");
  const box = document.createElement("div");
  box.className = "text";
  box.id = "grown";
  document.querySelector("main").prepend(box);
  const growth = new Growth(box);
  const slices = [];
  for (let isAll = false; !isAll; ) {
    const length = box.textContent.length;
    isAll = growth.step(text);
    slices.push(box.textContent.length - length);
  }
  return slices;
}"""


def repeated(part: str, size: int) -> str:
    return part * (size // len(part))


@pytest.mark.parametrize(
    "answer",
    [
        "| a | b |\n|---|---|\n" + repeated("| Some **words** | 12 |\n", 100_000),
        repeated("- item\n  - deeper\n", 100_000),
        "- first\n" + repeated("  - item\n", 100_000),
        repeated("> said\n", 100_000),
        repeated("word ", 100_000),
        repeated("word", 100_000),
        repeated("Some words.\n\n", 100_000),
    ],
)
def test_no_frame_has_to_show_more_than_a_slice(page: Page, answer: str) -> None:
    slices = page.evaluate(SLICES, answer)
    assert len(slices) >= 10
    assert max(slices) <= 10_000


def test_a_long_table_has_all_its_rows_and_each_part_its_header(page: Page) -> None:
    rows = "".join(f"| {number} | **some** words |\n" for number in range(2_000))
    table = f"| Number | Words |\n|--:|---|\n{rows}"
    text = begun(page, "An answer.")
    page.evaluate("text => view.finish(text)", f"{table}\nAfter it.")
    expect(text.locator("p")).to_have_text("After it.")
    numbers = text.locator("td:first-child").evaluate_all(
        "all => all.map(x => +x.innerText)"
    )
    assert numbers == list(range(2_000))
    tables = text.get_by_role("table")
    assert tables.count() > 1
    expect(tables.get_by_role("columnheader", name="Words")).to_have_count(
        tables.count()
    )
    expect(text.locator("td[align='right']")).to_have_count(2_000)


@pytest.mark.parametrize(
    "after", ["\nText | more", "# Title", "- item", "```\ncode", "> said"]
)
def test_a_table_may_end_wherever_it_is_cut(page: Page, after: str) -> None:
    row = "| some | words |\n"
    found = page.evaluate(
        """async ([row, after]) => {
          const { Growth } = await import("/page/growth.js");
          const found = new Set();
          for (let spaces = 0; spaces <= 2 * row.length; spaces++) {
            const header = `| a ${" ".repeat(spaces)}| b |\n|---|---|\n`;
            const text = header + row.repeat(10_000 / row.length) + after;
            const box = document.createElement("div");
            const growth = new Growth(box);
            while (!growth.step(text));
            const tables = [...box.querySelectorAll("table")];
            const rows = tables.map(({ tBodies }) => tBodies[0]?.rows.length ?? 0);
            const rest = [...box.children].slice(tables.length);
            const all = rows.reduce((sum, number) => sum + number, 0);
            const isSound = Math.min(...rows) > 0 && rest.length === 1;
            found.add(`${all} ${isSound} ${rest[0].textContent.trim()}`);
          }
          return [...found];
        }""",
        [row, after],
    )
    [result] = found
    assert result.startswith(f"{10_000 // len(row)} true ")
    assert result.endswith(after.split(maxsplit=1)[1])


def test_a_long_answer_that_grows_is_the_same_as_one_that_is_there_at_once(
    page: Page,
) -> None:
    answer = (
        "# A\n\n"
        + "".join(f"{number}. item\n   - **b**\n" for number in range(1_500))
        + "\n```\n" + "code [l]\n" * 3_000 + "```\n\n| a | b |\n|---|---|\n"
        + "| [l] | d |\n" * 3_000
        + "\n## B\n\n"
        + "Some words and a [l].\n" * 1_000
        + "\n[l]: https://a.example\n\n### C\n"
    )  # fmt: skip
    same = page.evaluate(
        """async (answer) => {
          const { AnswerView } = await import("/page/answer.js");
          const boxes = [document.createElement("div"), document.createElement("div")];
          const [grown, whole] = boxes.map((box) => new AnswerView(box));
          for (let end = 1; end < answer.length; end += 997) {
            grown.show(answer.slice(0, end));
            await new Promise(requestAnimationFrame);
          }
          grown.finish(answer);
          whole.finish(answer);
          while (boxes.some((box) => box.querySelectorAll("a").length < 4000))
            await new Promise(requestAnimationFrame);
          return boxes.map((box) => box.innerHTML);
        }""",
        answer,
    )
    assert same[0] == same[1]
    assert same[1].count("<li>") == 3_000
    assert same[1].count("<pre") == 1
    assert same[1].count("<h3>") == 1


def test_what_is_selected_in_a_long_table_stays_selected(page: Page) -> None:
    table = "| a | b |\n|---|---|\n" + repeated("| some | words |\n", 30_000)
    text = begun(page, "An answer.")
    grow(page, f"{table}| last |")
    expect(text.locator("td", has_text="last")).to_be_visible()
    text.locator("td").first.evaluate("each => getSelection().selectAllChildren(each)")
    grow(page, f"{table}| last | one |\n| more |")
    expect(text.locator("td", has_text="more")).to_be_visible()
    assert page.evaluate("getSelection().toString()").strip() == "some"


@pytest.mark.parametrize(
    "part", ["Some **words** and `code`.\n\n", "word ", "- item\n"]
)
def test_an_answer_of_100_kb_leaves_most_of_the_time_to_the_page(
    page: Page, part: str
) -> None:
    share = page.evaluate(
        """async (part) => {
          const { AnswerView } = await import("/page/answer.js");
          const box = document.createElement("div");
          box.className = "text";
          document.querySelector("main").prepend(box);
          let spent = 0;
          const view = new AnswerView(box, (change) => {
            const began = performance.now();
            change();
            scrollTo(0, document.documentElement.scrollHeight);
            spent += performance.now() - began;
          });
          const text = part.repeat(100_000 / part.length);
          const began = performance.now();
          for (let end = 0; end <= text.length; end += 400) {
            view.show(text.slice(0, end));
            await new Promise(requestAnimationFrame);
          }
          return spent / (performance.now() - began);
        }""",
        part,
    )
    assert share < 0.4
