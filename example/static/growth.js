/** Markdown that becomes nodes slice by slice. */

import { blocksOf, nodesOf } from "./markdown.js";
import { patch } from "./patch.js";

/** Characters that become nodes at a time, so that no frame takes long. */
const SLICE = 10_000;

/**
 * An element that shows a text as Markdown, and how far it does.
 *
 * Only the last block of Markdown can change with what comes, so the others are settled, and no
 * more is made of them. A block that is longer than a slice is cut, as if a blank line stood
 * there, and each part of a table has its header. Code is not cut: it takes little time.
 */
export class Growth {
  /** Whether a link may lead to a definition in another block. */
  hasLinks = false;
  #element;
  #links;
  /** What is settled: characters, nodes, and the depths of the headings. */
  #length = 0;
  #nodes = 0;
  #depths = [];
  /** The header of the table that was cut. */
  #header = "";

  /** @param links the definitions of links that are known before. */
  constructor(element, links = {}) {
    this.#element = element;
    this.#links = links;
  }

  /** Show one more slice of a text; returns whether that is all of it. */
  step(text) {
    const { blocks, isAll } = this.#parsed(text.slice(this.#length));
    const last = Math.max(blocks.findLastIndex(({ type }) => type !== "space"), 0);
    const isCut = last === 0 && !isAll;
    const settled = blocks.slice(0, isCut ? blocks.length : last);
    const done = nodesOf(settled, this.#depths);
    const open = nodesOf(blocks.slice(settled.length), [...this.#depths]);
    // What is beyond a slice was shown before, or comes with the next ones.
    patch(this.#element, this.#nodes, [...done, ...open], isAll);
    if (settled.length) {
      this.#nodes += done.length;
      for (const { raw } of settled) this.#length += raw.length;
      this.#length -= this.#header.length;
      this.#header = isCut ? headerOf(settled[0]) : "";
    }
    return isAll;
  }

  #parsed(rest) {
    for (let size = SLICE; ; size *= 2) {
      const part = upToALine(rest, size);
      const isAll = part.length === rest.length;
      const blocks = blocksOf(this.#header + part, this.#links);
      this.hasLinks ||= Object.keys(blocks.links).length > 0;
      if (this.#header && !blocks[0].rows.length) blocks[0] = { ...blocks[0], type: "space" };
      if (isAll || blocks.length > 1 || blocks[0].type !== "code") return { blocks, isAll };
    }
  }
}

function headerOf({ type, raw }) {
  return type === "table" ? /^.*\n.*\n/.exec(raw)[0] : "";
}

/** Cut a text before a line, if possible one that is not indented, as in an item of a list. */
function upToALine(text, size) {
  if (text.length <= size) return text;
  const part = text.slice(0, size);
  let at = part.lastIndexOf("\n");
  while (at > 0 && /\s/.test(text[at + 1])) at = part.lastIndexOf("\n", at - 1);
  if (at <= 0) at = part.lastIndexOf("\n");
  if (at <= 0) at = part.lastIndexOf(" ");
  // Not within a character of two units.
  return at > 0 ? text.slice(0, at + 1) : part.replace(/[\uD800-\uDBFF]$/, "");
}
