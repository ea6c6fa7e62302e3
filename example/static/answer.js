/** How an answer is shown while it grows. */

import { Growth } from "./growth.js";
import { linksOf } from "./markdown.js";

/** A last line that has no word yet: "-" may become a list, or make a heading of a line. */
const UNDECIDED = /(^|\n)[-=*_~`#>+|: \t]+$/;
/** Milliseconds from which on a frame makes no other slice of an answer. */
const LONG = 12;
/** Parts of the time that are left to the page, for each part that goes to an answer. */
const REST = 3;
const COPIED_FOR = 2000;

/**
 * Shows an answer as Markdown, at most once a frame, and less often if that takes long.
 *
 * No frame shows more than a slice and what fits into a moment, however much has come.
 */
export class AnswerView {
  #element;
  #change;
  #next = "";
  #text = "";
  #frame = 0;
  #restsUntil = 0;
  #growth;

  /**
   * @param element what shows the answer.
   * @param change calls what changes the page.
   */
  constructor(element, change = (render) => render()) {
    this.#element = element;
    this.#change = change;
    this.#growth = new Growth(element);
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

  /** Show the whole text, at once, or what is long with the next frames. */
  finish(text) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#take(text);
    this.#renderWhole(() => {
      if (!this.#growth.hasLinks) return;
      // Their definitions may stand in other blocks.
      this.#growth = new Growth(this.#element, linksOf(this.#text));
      this.#renderWhole();
    });
  }

  #take(text) {
    // As marked does it; half of a CRLF waits for the other.
    const clean = text.includes("\r") ? text.replace(/\r\n|\r(?!$)/g, "\n") : text;
    if (!clean.startsWith(this.#text)) this.#growth = new Growth(this.#element);
    this.#text = clean;
  }

  #renderWhole(then = () => {}) {
    this.#frame = 0;
    if (this.#render(this.#text)) then();
    else this.#frame = requestAnimationFrame(() => this.#renderWhole(then));
  }

  #renderUnlessResting() {
    this.#frame = 0;
    if (performance.now() < this.#restsUntil) {
      this.show(this.#next);
    } else {
      this.#take(this.#next);
      if (!this.#render(this.#text.replace(UNDECIDED, ""))) this.show(this.#next);
    }
  }

  /** Show some more of a text; returns whether that is all of it. */
  #render(text) {
    const began = performance.now();
    let isAll = false;
    this.#change(() => {
      try {
        do isAll = this.#growth.step(text);
        while (!isAll && performance.now() < began + LONG);
      } catch {
        // Quotes in quotes in quotes ..., more than the stack holds.
        this.#showPlainly(text);
        isAll = true;
      }
    });
    const now = performance.now();
    this.#restsUntil = now + REST * (now - began);
    return isAll;
  }

  #showPlainly(text) {
    const paragraph = document.createElement("p");
    paragraph.className = "plain";
    paragraph.textContent = text;
    this.#element.replaceChildren(paragraph);
    this.#growth = new Growth(this.#element);
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
