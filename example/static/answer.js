/** How an answer is shown while it grows. */

import { blocksOf, nodesOf } from "./markdown.js";

/** A last line that has no word yet: "-" may become a list, or make a heading of a line. */
const UNDECIDED = /(^|\n)[-=*_~`#>+|: \t]+$/;
/** Parts of the time that are left to the page, for each part that goes to an answer. */
const REST = 3;
const COPIED_FOR = 2000;

/**
 * Shows an answer as Markdown, at most once a frame, and less often if that takes long.
 *
 * Only the last block of Markdown can change with what comes, so only that one is made again,
 * and of its nodes only those are touched that differ: what the reader has selected stays
 * selected, and what is scrolled stays scrolled.
 */
export class AnswerView {
  #element;
  #change;
  #next = "";
  #text = "";
  #frame = 0;
  #restsUntil = 0;
  #settled;

  /**
   * @param element what shows the answer.
   * @param change calls what changes the page.
   */
  constructor(element, change = (render) => render()) {
    this.#element = element;
    this.#change = change;
    this.#settled = nothingSettled();
    element.addEventListener("click", ({ target }) => {
      const button = target.closest("button.copy");
      if (button) copyCode(button);
    });
  }

  /** Show the text as it is by now, with the next frame. */
  show(text) {
    this.#next = text;
    this.#frame ||= requestAnimationFrame(() => this.#renderUnlessResting());
  }

  /** Show the whole text, at once. */
  finish(text) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#take(text);
    this.#render(this.#text);
    if (!this.#settled.hasLinks) return;
    // Their definitions may stand in other blocks.
    this.#settled = nothingSettled();
    this.#render(this.#text);
  }

  #take(text) {
    // As marked does it; half of a CRLF waits for the other.
    const clean = text.includes("\r") ? text.replace(/\r\n|\r(?!$)/g, "\n") : text;
    if (!clean.startsWith(this.#text)) this.#settled = nothingSettled();
    this.#text = clean;
  }

  #renderUnlessResting() {
    this.#frame = 0;
    if (performance.now() < this.#restsUntil) {
      this.show(this.#next);
    } else {
      this.#take(this.#next);
      this.#render(this.#text.replace(UNDECIDED, ""));
    }
  }

  #render(text) {
    const began = performance.now();
    this.#change(() => {
      try {
        this.#showBlocks(text.slice(this.#settled.length));
      } catch {
        // Quotes in quotes in quotes ..., more than the stack holds.
        this.#showPlainly(text);
      }
    });
    const now = performance.now();
    this.#restsUntil = now + REST * (now - began);
  }

  #showBlocks(text) {
    const settled = this.#settled;
    const blocks = blocksOf(text);
    const last = Math.max(blocks.findLastIndex(({ type }) => type !== "space"), 0);
    const done = nodesOf(blocks.slice(0, last), settled.depths);
    const open = nodesOf(blocks.slice(last), [...settled.depths]);
    patch(this.#element, settled.nodes, [...done, ...open]);
    settled.hasLinks ||= Object.keys(blocks.links).length > 0;
    settled.nodes += done.length;
    for (const { raw } of blocks.slice(0, last)) settled.length += raw.length;
  }

  #showPlainly(text) {
    const paragraph = document.createElement("p");
    paragraph.className = "plain";
    paragraph.textContent = text;
    this.#element.replaceChildren(paragraph);
    this.#settled = nothingSettled();
  }
}

/** What is known of the blocks before the last one, which change no more. */
function nothingSettled() {
  return { length: 0, nodes: 0, hasLinks: false, depths: [] };
}

/** Make an element's children, from a position on, like some nodes. */
function patch(parent, position, nodes) {
  const old = [...parent.childNodes].slice(position);
  nodes.forEach((node, index) => {
    if (!old[index]) parent.append(node);
    else if (!old[index].isEqualNode(node)) patchNode(old[index], node);
  });
  old.slice(nodes.length).forEach((node) => node.remove());
}

function patchNode(old, node) {
  if (old instanceof Text && node instanceof Text) {
    // Replacing the data would end a selection in it.
    if (node.data.startsWith(old.data)) old.appendData(node.data.slice(old.length));
    else old.data = node.data;
  } else if (!old.cloneNode(false).isEqualNode(node.cloneNode(false))) {
    old.replaceWith(node);
  } else if (old.nodeName !== "BUTTON") {
    patch(old, 0, [...node.childNodes]);
  }
}

async function copyCode(button) {
  const code = button.parentElement.querySelector("code");
  button.textContent = (await isCopied(code)) ? "Copied" : "Press Ctrl+C";
  setTimeout(() => (button.textContent = "Copy code"), COPIED_FOR);
}

async function isCopied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    // Not allowed, or not there: only https and localhost have it.
    getSelection().selectAllChildren(code);
    return document.execCommand("copy");
  }
}
