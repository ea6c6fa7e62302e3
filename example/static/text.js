/** The text of an answer, shown as it is. Another class with this interface may format it. */
export class PlainText {
  #node = document.createTextNode("");

  constructor(element) {
    element.append(this.#node);
  }

  get text() {
    return this.#node.data;
  }

  set text(text) {
    const shown = this.#node.data;
    // What is selected in the part that stays remains selected.
    if (text.startsWith(shown)) this.#node.appendData(text.slice(shown.length));
    else this.#node.data = text;
  }
}
