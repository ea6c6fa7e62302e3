/**
 * Markdown as DOM nodes that can do no harm.
 *
 * HTML in an answer is no markup: it is shown as the text that it is, so that no word of an
 * answer about HTML is lost. What marked makes of the rest goes through DOMPurify.
 */

import { Lexer, Parser, Renderer, Tokenizer, getDefaults } from "./vendor/marked.esm.js";
import DOMPurify from "./vendor/purify.es.mjs";

/** HTML that models write because Markdown has nothing for it; without attributes only. */
const INLINE_HTML = /^<(br ?\/?|\/?(kbd|mark|sub|sup|u))>$/i;

const PURIFY = {
  ALLOWED_TAGS: [
    ..."a blockquote br code del em h2 h3 h4 h5 h6 hr kbd li mark ol p pre".split(" "),
    ..."strong sub sup table tbody td th thead tr u ul".split(" "),
  ],
  ALLOWED_ATTR: ["align", "class", "href", "start"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  // No address of this site's, which could be one that does something.
  ALLOWED_URI_REGEXP: /^(https?:\/\/|mailto:|tel:)/i,
  ADD_URI_SAFE_ATTR: ["align", "start"],
  RETURN_DOM_FRAGMENT: true,
};

/**
 * Split Markdown into its blocks.
 *
 * @param links definitions that links may have in another part of the text.
 */
export function blocksOf(text, links = {}) {
  const lexer = newLexer();
  Object.assign(lexer.tokens.links, links);
  return lexer.lex(text);
}

/** Find the definitions of links in a text, and parse no more of it than that needs. */
export function linksOf(text) {
  const lexer = newLexer();
  lexer.blockTokens(text, lexer.tokens);
  return lexer.tokens.links;
}

function newLexer() {
  return new Lexer({ ...getDefaults(), breaks: true, tokenizer: new TagsAlone() });
}

/**
 * Make the nodes of some blocks.
 *
 * @param depths the depths of the headings that the blocks stand below, which is changed.
 */
export function nodesOf(blocks, depths) {
  const renderer = new AnswerRenderer(depths);
  const fragment = purify(new Parser({ ...getDefaults(), renderer }).parse(blocks));
  // A link whose address was taken away would still look like one.
  fragment.querySelectorAll("a:not([href])").forEach((a) => a.replaceWith(...a.childNodes));
  fragment.querySelectorAll("a").forEach(leadElsewhere);
  fragment.querySelectorAll("pre").forEach(putIntoBox);
  fragment.querySelectorAll("table").forEach((table) => letScroll(wrap(table), "Table"));
  return [...fragment.childNodes].filter((node) => node.textContent.trim() || node.tagName);
}

export function purify(html) {
  return DOMPurify.sanitize(html, PURIFY);
}

class TagsAlone extends Tokenizer {
  /** Take a tag for itself: marked would take the text after some tags as HTML, too. */
  tag(source) {
    const [raw] = this.rules.inline.tag.exec(source) ?? [];
    return raw && { type: "html", block: false, raw, text: raw };
  }
}

class AnswerRenderer extends Renderer {
  #depths;
  #isInLink = false;

  constructor(depths) {
    super();
    this.#depths = depths;
  }

  html({ text, block }) {
    if (!block) return INLINE_HTML.test(text) ? text : this.text({ text });
    return `<p>${this.text({ text: text.trim() }).replaceAll("\n", "<br>")}</p>`;
  }

  /** Leave no level out and h1 to the page, as screen readers like it. */
  heading({ tokens, depth }) {
    while (this.#depths.at(-1) >= depth) this.#depths.pop();
    this.#depths.push(depth);
    const name = `h${Math.min(this.#depths.length + 1, 6)}`;
    const html = this.parser.parseInline(tokens);
    return html && `<${name}>${html}</${name}>`;
  }

  link(token) {
    this.#isInLink = true;
    const html = super.link(token.text.trim() ? token : { ...token, tokens: textOf(token.href) });
    this.#isInLink = false;
    return html;
  }

  /** Link to an image: to load it would tell its server who reads the answer, and when. */
  image({ href, tokens, text }) {
    const said = tokens ? this.parser.parseInline(tokens, this.parser.textRenderer) : text;
    const name = `Image: ${said || href}`;
    return this.#isInLink ? this.text({ text: name }) : super.link({ href, tokens: textOf(name) });
  }

  checkbox({ checked }) {
    return checked ? "☑ " : "☐ ";
  }

  tablecell(token) {
    // An empty header cell has nothing to say to a screen reader.
    return super.tablecell({ ...token, header: token.header && token.text !== "" });
  }
}

function textOf(text) {
  return [{ type: "text", raw: text, text }];
}

function leadElsewhere(link) {
  link.target = "_blank";
  link.rel = "noopener noreferrer";
}

function putIntoBox(pre) {
  const [code] = pre.children;
  const language = document.createElement("span");
  language.textContent = code.className.replace("language-", "");
  code.removeAttribute("class");
  code.textContent = code.textContent.replace(/\n$/, "");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy code";
  // Says "Copied" to a screen reader, too.
  button.ariaLive = "polite";
  const box = wrap(pre);
  box.className = "code";
  box.prepend(language, button);
  letScroll(pre, "Code");
}

function wrap(element) {
  const box = document.createElement("div");
  element.replaceWith(box);
  box.append(element);
  return box;
}

/** Let what may be wider than the page be scrolled by the keyboard. */
function letScroll(element, name) {
  element.classList.add("wide");
  element.tabIndex = 0;
  element.role = "group";
  element.ariaLabel = name;
}
