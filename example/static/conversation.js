import { connection, onReturn, persist, post } from "./connection.js";
import { Exchange } from "./exchange.js";
import { follow, readAnswer } from "./follow.js";

const URL = "/web/chat-messages";

/**
 * The conversation as the server keeps it, and what is done in it.
 *
 * Nothing is polled. Another tab of this browser tells of what it does, by a
 * BroadcastChannel. What another device does is learned when somebody comes back to this
 * page. An answer that is known streams in each of them.
 */
export class Conversation {
  exchanges = [];
  #id = null;
  #log;
  #page;
  #channel = new BroadcastChannel("conversation");
  #asking = null;
  #isStale = false;
  #turn = 0;
  /** The message whose task the server has not told yet. */
  #sending = null;

  /** page has changed(), ended(exchange) and complain(text). */
  constructor(log, page) {
    this.#log = log;
    this.#page = page;
    this.#channel.onmessage = () => document.hidden || this.update();
    onReturn(() => this.update());
  }

  get running() {
    return this.exchanges.filter((each) => each.runs);
  }

  get isStopping() {
    return this.running.length > 0 && this.running.every((each) => each.stopAsked);
  }

  /** Send a message, and show its answer; returns whether the server has taken it. */
  async send(text) {
    const exchange = this.#add({ query: text }, this.exchanges.length);
    this.#sending = this.#ask(exchange);
    const response = await this.#sending;
    this.#sending = null;
    if (response?.ok) {
      this.#read(exchange, response.body);
      return true;
    }
    this.#remove(exchange);
    if (response) {
      if (response.status === 409) await this.update();
      if (response.status !== 401) this.#page.complain(whySendFailed(response.status));
      return false;
    }
    // The server may have taken it all the same.
    const known = new Set(this.exchanges);
    const isUp = await this.#load().catch(() => false);
    if (this.exchanges.some((each) => !known.has(each) && each.query === text)) return true;
    if (isUp) {
      this.#page.complain("The connection was lost. Your message was not sent.");
    } else {
      connection.lost("The server cannot be reached. Your message was not sent.");
      this.update();
    }
    return false;
  }

  /** Stop every answer that runs: there is one, unless two tabs have asked at once. */
  stop() {
    for (const exchange of this.running) {
      if (exchange.stopAsked) continue;
      exchange.stopAsked = true;
      // Without a task id, the answer to the request, which brings it, sends the stop.
      if (exchange.taskId) this.#sendStop(exchange);
    }
    this.#page.changed();
  }

  /** Begin another conversation; the server stops what runs in this one. */
  async beginAnother() {
    const response = await post("/web/conversations", {}).catch(() => null);
    if (response?.ok) {
      this.#channel.postMessage("changed");
      await this.update();
      return true;
    }
    if (!response) {
      connection.lost();
      this.update();
    } else if (response.status !== 401) {
      this.#page.complain(whyNotBegun(response.status));
    }
    return false;
  }

  /** Show the conversation as it is on the server, as soon as that can be asked. */
  update() {
    this.#isStale = true;
    this.#asking ??= (async () => {
      while (this.#isStale) {
        this.#isStale = false;
        await persist(() => this.#load());
      }
      this.#asking = null;
    })();
    return this.#asking;
  }

  async #ask(exchange) {
    try {
      const body = { query: exchange.query, conversation_id: this.#id };
      const line = new AbortController();
      const response = await post(URL, body, line.signal);
      if (response.ok) {
        exchange.hangUp = () => line.abort();
        exchange.taskId = decodeURIComponent(response.headers.get("Chatstop-Task-Id"));
        this.#channel.postMessage("changed");
        if (exchange.stopAsked) this.#sendStop(exchange);
      }
      return response;
    } catch {
      return null;
    }
  }

  async #read(exchange, body) {
    if (await readAnswer(exchange, body)) exchange.end("failed");
    this.#follow(exchange);
  }

  async #follow(exchange) {
    await follow(exchange, () => this.update());
    if (exchange.hasGap) this.update();
  }

  async #sendStop(exchange) {
    const url = `${URL}/${encodeURIComponent(exchange.taskId)}/stop`;
    const response = await persist(() => post(url, {}), () => exchange.runs);
    if (!response || response.ok || !exchange.runs) return;
    if (response.status === 404 && !exchange.isConnected) {
      // It has ended long ago, or nobody runs it any more: its worker was killed.
      await this.update();
      exchange.end("interrupted");
      return;
    }
    exchange.stopAsked = false;
    if (response.status !== 401) this.#page.complain(whyStopFailed(response.status));
    this.#page.changed();
  }

  async #load() {
    const turn = ++this.#turn;
    const response = await fetch(URL);
    if (response.status === 401) {
      connection.over();
      return false;
    }
    if (!response.ok) throw new Error(`status ${response.status}`);
    const { conversation_id: id, messages } = await response.json();
    connection.found();
    // Its row has a task id to be recognised by, as soon as this tab knows it, too.
    await this.#sending;
    if (turn !== this.#turn) return true; // a newer one was asked for
    const known = new Set(this.exchanges);
    const isSame = this.#id === id;
    if (this.#id && !isSame) {
      for (const exchange of this.exchanges) this.#remove(exchange);
    }
    this.#id = id;
    messages.forEach((row, position) => this.#show(row, position));
    const last = this.exchanges.at(-1);
    // An answer that has begun and ended elsewhere meanwhile.
    if (isSame && last && !known.has(last) && !last.runs) this.#page.ended(last);
    this.#page.changed();
    return true;
  }

  #show(row, position) {
    const exchange = this.exchanges.find((each) => each.taskId === row.task_id);
    if (!exchange) {
      const added = this.#add(row, position);
      added.taskId = row.task_id;
      this.#follow(added);
    } else if (row.state !== "running" && (exchange.runs || exchange.hasGap)) {
      // A worker that was killed may have said more than it could keep.
      if (exchange.hasGap || !exchange.said.startsWith(row.answer)) exchange.said = row.answer;
      exchange.hasGap = false;
      exchange.end(row.state);
      exchange.hangUp();
    }
  }

  #add(row, position) {
    const exchange = new Exchange(this.#page, row);
    this.#log.insertBefore(exchange.element, this.#log.children[position] ?? null);
    this.exchanges.splice(position, 0, exchange);
    this.#page.changed();
    return exchange;
  }

  #remove(exchange) {
    this.exchanges = this.exchanges.filter((each) => each !== exchange);
    exchange.remove();
  }
}

function whySendFailed(code) {
  if (code === 409) {
    return "This is another conversation, begun elsewhere. Your message was not sent.";
  }
  if (code === 413) return "Your message is too long.";
  return `Your message could not be sent (error ${code}). Try again.`;
}

function whyNotBegun(code) {
  if (code === 503) return "The server cannot stop the answer at the moment. Try again.";
  return `A new conversation could not be begun (error ${code}). Try again.`;
}

function whyStopFailed(code) {
  if (code === 403) return "Your session is over. Load the page again to begin a new one.";
  if (code === 404) return "The server does not know this answer any more.";
  if (code === 503) return "The server cannot stop answers at the moment. Try again.";
  return `The answer could not be stopped (error ${code}). Try again.`;
}
