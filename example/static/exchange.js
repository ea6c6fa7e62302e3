import { AnswerView } from "./answer.js";
import { keepingTheEndInView } from "./scroll.js";

export const MARKS = {
  stopped: "Stopped",
  failed: "The answer could not be completed",
  timed_out: "Ended, because it took too long",
  disconnected: "Interrupted",
  interrupted: "Interrupted",
};

const template = document.getElementById("exchange");

/** A message and its answer, and how they are shown. */
export class Exchange {
  taskId = null;
  state = "running";
  stopAsked = false;
  /** Whether it is being read from an open response. */
  isConnected = false;
  /** The id of the last event that was read, by which a new connection goes on. */
  position = "";
  /** Whether the next event is the first one of the answer. */
  beginsAnew = true;
  /** Whether a part of the answer was lost on its way; the server keeps the whole. */
  hasGap = false;
  /** Whether the server keeps the answer, as far as it has said. */
  isSaved = true;
  /** Ends the connection that the answer is read from. */
  hangUp = () => {};
  #said = "";
  #view;
  #mark;
  #page;

  /** page has changed() and ended(exchange). */
  constructor(page, { query, state = "running", answer = "" }) {
    this.#page = page;
    this.query = query;
    this.state = state;
    this.element = template.content.cloneNode(true).firstElementChild;
    this.#mark = this.element.querySelector(".mark");
    this.#view = new AnswerView(this.element.querySelector(".text"), keepingTheEndInView);
    this.element.querySelector(".query").textContent = query;
    this.said = answer;
    this.#showState();
  }

  get runs() {
    return this.state === "running";
  }

  get said() {
    return this.#said;
  }

  set said(text) {
    this.#said = text;
    if (this.runs) this.#view.show(text);
    else this.#view.finish(text);
  }

  say(piece) {
    this.said += piece;
  }

  /** Take an event of the answer. */
  take({ event, answer, metadata }, id) {
    if (this.beginsAnew) this.said = "";
    this.beginsAnew = false;
    this.position = id;
    if (event === "message") {
      this.say(answer);
    } else if (event === "lost") {
      this.hasGap = true;
      this.say(" […] ");
    } else if (event === "message_end") {
      this.isSaved = metadata.saved !== false;
      this.end(metadata.end_reason);
    }
  }

  /** Note how it ended, unless that is known. */
  end(state) {
    if (!this.runs) return;
    this.state = state;
    this.#view.finish(this.#said);
    this.#showState();
    this.#page.ended(this);
  }

  /** Remove it from the page, and read no more of it. */
  remove() {
    this.state = "removed";
    this.hangUp();
    this.element.remove();
  }

  #showState() {
    keepingTheEndInView(() => {
      this.element.dataset.state = this.state;
      this.#mark.textContent = MARKS[this.state] ?? "";
      this.#mark.hidden = !MARKS[this.state];
    });
  }
}
