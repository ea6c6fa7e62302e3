import { AnswerView } from "./answer.js";
import { readEvents } from "./sse.js";

const [log, welcome, composer, query, send, stop, status, alert, template] = [
  "log", "welcome", "composer", "query", "send", "stop", "status", "alert", "exchange",
].map((id) => document.getElementById(id));

const UNREACHABLE = "The server cannot be reached. Trying again…";
const SESSION_OVER = "Your session is over. Load the page again to begin a new one.";
const MARKS = {
  stopped: "Stopped",
  failed: "The answer could not be completed",
  disconnected: "Interrupted",
  interrupted: "Interrupted",
};

/** A message and its answer, and how they are shown. */
class Exchange {
  id = null;
  taskId = null;
  state = "running";
  stopAsked = false;
  /** Whether this tab reads the answer's stream; another's is asked for now and then. */
  streams = false;

  constructor(text) {
    this.query = text;
    this.element = template.content.cloneNode(true).firstElementChild;
    this.mark = this.element.querySelector(".mark");
    /** The answer as the model wrote it. */
    this.text = "";
    this.view = new AnswerView(this.element.querySelector(".text"), keepingTheEndInView);
    this.element.querySelector(".query").textContent = text;
    this.element.dataset.state = this.state;
    log.append(this.element);
    exchanges.push(this);
  }

  get runs() {
    return this.state === "running";
  }

  say(piece) {
    this.becomeText(this.text + piece);
  }

  becomeText(text) {
    this.text = text;
    if (this.runs) this.view.show(text);
    else this.view.finish(text);
  }

  become(state) {
    this.state = this.element.dataset.state = state;
    if (!this.runs) this.view.finish(this.text);
    keepingTheEndInView(() => {
      this.mark.textContent = MARKS[state] ?? "";
      this.mark.hidden = !MARKS[state];
    });
  }

  remove() {
    this.element.remove();
    exchanges.splice(exchanges.indexOf(this), 1);
  }
}

const exchanges = [];

// Sending

async function sendMessage(text) {
  const exchange = new Exchange(text);
  exchange.streams = true;
  scrollTo(0, document.body.scrollHeight);
  complain("");
  tell("Answering…");
  let problem = "The server cannot be reached. Your message was not sent.";
  try {
    const response = await post("/web/chat-messages", { query: text });
    problem = response.ok ? "" : whySendFailed(response.status);
    if (response.ok) await readAnswer(exchange, response.body);
  } catch {
    // No answer to the request, or a stream that broke: the server knows what became
    // of it, and is asked below.
  }
  exchange.streams = false;
  if (problem) {
    exchange.remove();
    query.value ||= text;
    complain(problem);
    tell("");
  } else if (exchange.runs) {
    followAnswers();
  }
  showControls();
}

async function readAnswer(exchange, body) {
  for await (const { data } of readEvents(body)) {
    const event = JSON.parse(data);
    if (event.event === "message") {
      if (!exchange.taskId) begun(exchange, event.message_id, event.task_id);
      exchange.say(event.answer);
    } else if (event.event === "message_end") {
      ended(exchange, event.metadata.end_reason);
    } else if (event.event === "error") {
      ended(exchange, "failed");
    }
  }
}

function begun(exchange, id, taskId) {
  exchange.id = id;
  exchange.taskId = taskId;
  if (exchange.stopAsked) sendStop(exchange);
}

function ended(exchange, state) {
  complain("");
  exchange.become(state);
  if (state === "stopped") tell("Stopped. What was said so far is kept.");
  else if (state === "finished") tell("The answer is complete.");
  else tell(`${MARKS[state]}.`);
  showControls();
}

// Stopping

function stopAnswer() {
  const exchange = exchanges.findLast((each) => each.runs);
  if (!exchange || exchange.stopAsked) return;
  exchange.stopAsked = true;
  complain("");
  tell("Stopping…");
  showControls();
  // Without a task id the answer's first event, which brings it, sends the stop.
  if (exchange.taskId) sendStop(exchange);
}

async function sendStop(exchange) {
  let code = 0;
  try {
    const url = `/web/chat-messages/${encodeURIComponent(exchange.taskId)}/stop`;
    code = (await post(url, {})).status;
  } catch {
    // The server cannot be reached.
  }
  if (!exchange.runs) return;
  if (code === 404 && !exchange.streams) {
    // Nobody runs it any more: its worker was killed.
    ended(exchange, "interrupted");
  } else if (code !== 200) {
    exchange.stopAsked = false;
    complain(whyStopFailed(code));
    tell("");
    showControls();
  } else if (!exchange.streams) {
    followAnswers();
  }
}

// Following what another tab, or this one before it was loaded again, has begun

let turn = 0;
let timer;
let pause = 1000;

async function followAnswers() {
  const myTurn = ++turn;
  clearTimeout(timer);
  let rows;
  try {
    const response = await fetch("/web/chat-messages");
    if (response.status === 401) {
      complain(SESSION_OVER);
      return;
    }
    rows = await response.json();
    if (!Array.isArray(rows)) throw new TypeError("no conversation");
  } catch {
    if (myTurn === turn) tryAgainLater();
    return;
  }
  // A message on its way has no id to be recognised by.
  if (myTurn !== turn || exchanges.some((each) => each.streams && !each.id)) return;
  pause = 1000;
  if (alert.textContent === UNREACHABLE) complain("");
  rows.forEach(showRow);
  showControls();
  if (exchanges.some((each) => each.runs && !each.streams)) {
    timer = setTimeout(followAnswers, pause);
  }
}

function tryAgainLater() {
  complain(UNREACHABLE);
  timer = setTimeout(followAnswers, pause);
  pause = Math.min(2 * pause, 10000);
}

function showRow(row, position) {
  const exchange =
    exchanges.find((each) => each.id === row.id) ??
    // A stream that broke before its first event.
    exchanges.find((each) => !each.id && each.query === row.query) ??
    new Exchange(row.query);
  if (log.children[position] !== exchange.element) {
    log.insertBefore(exchange.element, log.children[position] ?? null);
  }
  // What this tab has read itself is newer, and an end is final.
  if (exchange.streams || (!exchange.runs && row.state === "running")) return;
  const isNew = !exchange.id;
  if (isNew && row.state === "running") tell("An answer still runs.");
  if (!exchange.taskId) begun(exchange, row.id, row.task_id);
  // A worker that was killed may have said more than it could keep.
  if (!exchange.text.startsWith(row.answer)) exchange.becomeText(row.answer);
  if (exchange.state === row.state) return;
  if (isNew) exchange.become(row.state);
  else ended(exchange, row.state);
}

// The page

function showControls() {
  const running = exchanges.findLast((each) => each.runs);
  const hadFocus = document.activeElement === stop;
  welcome.hidden = exchanges.length > 0;
  stop.hidden = !running;
  stop.firstElementChild.textContent = running?.stopAsked ? "Stopping…" : "Stop";
  stop.setAttribute("aria-disabled", String(Boolean(running?.stopAsked)));
  send.setAttribute("aria-disabled", String(exchanges.some((each) => each.streams)));
  if (stop.hidden && hadFocus) query.focus();
}

function complain(text) {
  keepingTheEndInView(() => (alert.textContent = text));
}

function tell(text) {
  status.textContent = text;
}

function keepingTheEndInView(change) {
  const page = document.documentElement;
  const isAtEnd = innerHeight + scrollY >= page.scrollHeight - 60;
  change();
  if (isAtEnd) scrollTo(0, page.scrollHeight);
}

function post(url, body) {
  const headers = { "Content-Type": "application/json" };
  return fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
}

function whySendFailed(code) {
  if (code === 401) return SESSION_OVER;
  if (code === 413) return "Your message is too long.";
  return `Your message could not be sent (error ${code}). Try again.`;
}

function whyStopFailed(code) {
  if (code === 0) return "The server cannot be reached. The answer may still run.";
  if (code === 401 || code === 403) return SESSION_OVER;
  if (code === 404) return "The server does not know this answer any more.";
  if (code === 503) return "The server cannot stop answers at the moment. Try again.";
  return `The answer could not be stopped (error ${code}). Try again.`;
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = query.value.trim();
  if (exchanges.some((each) => each.streams)) {
    tell("Stop the answer first, or wait for its end.");
  } else if (text) {
    query.value = "";
    sendMessage(text);
    showControls();
    query.focus();
  }
});

query.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    composer.requestSubmit();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) stopAnswer();
});

stop.addEventListener("click", stopAnswer);

// What other tabs have said meanwhile.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) followAnswers();
});

followAnswers();
