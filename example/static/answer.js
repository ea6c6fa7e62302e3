/** How an answer is shown while it grows: as the text that it is, at most once a frame. */
export class AnswerView {
  #node = document.createTextNode("");
  #change;
  #next = "";
  #frame = 0;

  /** change calls what changes the page. */
  constructor(element, change) {
    element.append(this.#node);
    this.#change = change;
  }

  /** Show the text as it is by now, with the next frame. */
  show(text) {
    this.#next = text;
    // What comes at once, as after a reload, is drawn at once.
    this.#frame ||= requestAnimationFrame(() => this.finish(this.#next));
  }

  /** Show the whole text, at once. */
  finish(text) {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const shown = this.#node.data;
    this.#change(() => {
      // What is selected in the part that stays remains selected.
      if (text.startsWith(shown)) this.#node.appendData(text.slice(shown.length));
      else this.#node.data = text;
    });
  }
}
