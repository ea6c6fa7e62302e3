import { connection } from "./connection.js";
import { Conversation } from "./conversation.js";
import { MARKS } from "./exchange.js";
import { isAtEnd, keepingTheEndInView, scrollToEnd } from "./scroll.js";

const [log, welcome, composer, query, hint, send, stop, status, alert, latest, another] = [
  "log", "welcome", "composer", "query", "hint", "send", "stop", "status", "alert", "latest",
  "new",
].map((id) => document.getElementById(id));

const HINT = hint.textContent;
const NOT_SAVED = "The server could not save the answer.";
const SLOW_STOP =
  "Stopping… The server does not react, and gives up in about a minute. A new conversation" +
  " can begin at once.";
/** Milliseconds until a stop is slow. */
const PATIENCE = 5000;

/** What has happened last, while no answer runs. */
let note = "";
/** What has gone wrong with what was done last. */
let problem = "";
/** Whether the draft is sent as soon as the answer that is being stopped has ended. */
let sendsAfterEnd = false;
/** Runs while a stop is on its way, and what it has found. */
let timer = null;
let isSlow = false;
/** Settles when a new conversation, which was asked for, has begun or has not. */
let beginning = null;

const page = {
  changed() {
    const { running, isStopping, exchanges } = conversation;
    const isRunning = running.length > 0;
    timeStop(isStopping);
    welcome.hidden = exchanges.length > 0;
    hide(another, exchanges.length === 0);
    hide(stop, !isRunning);
    setText(stop.firstElementChild, isStopping ? "Stopping…" : "Stop");
    setDisabled(stop, isStopping);
    setText(send, isRunning ? "Stop and send" : "Send");
    setDisabled(send, isRunning && (sendsAfterEnd || !query.value.trim()));
    setText(hint, isRunning ? HINT.replace("sends", "stops the answer and sends") : HINT);
    showLatest();
    keepingTheEndInView(() => setText(alert, connection.problem || problem));
    setText(status, connection.problem ? "" : whatHappens(isRunning, isStopping));
  },

  ended(exchange) {
    note = whatHappened(exchange);
    problem = "";
    page.changed();
    if (sendsAfterEnd && !conversation.running.length) sendDraft();
  },

  complain(text) {
    problem = text;
    sendsAfterEnd = false;
    page.changed();
  },
};

const conversation = new Conversation(log, page);
connection.onChange = page.changed;

function whatHappened({ state, said, isSaved }) {
  if (state === "finished") return isSaved ? "The answer is complete." : NOT_SAVED;
  if (state !== "stopped") return `${MARKS[state]}.`;
  if (!said.trim()) return "Stopped before anything was said.";
  return isSaved ? "Stopped. What was said so far is kept." : `Stopped. ${NOT_SAVED}`;
}

function whatHappens(isRunning, isStopping) {
  if (!isRunning) return note;
  if (!isStopping) return "Answering…";
  return isSlow ? SLOW_STOP : "Stopping…";
}

/** Say more if a stop takes long: the process that answered may have been killed. */
function timeStop(isStopping) {
  if (isStopping === (timer !== null)) return;
  clearTimeout(timer);
  isSlow = false;
  timer = isStopping ? setTimeout(stopIsSlow, PATIENCE) : null;
}

function stopIsSlow() {
  isSlow = true;
  page.changed();
}

function setText(element, text) {
  // What is set again would be announced again.
  if (element.textContent !== text) element.textContent = text;
}

function setDisabled(button, isDisabled) {
  button.setAttribute("aria-disabled", String(isDisabled));
}

function hide(button, isHidden) {
  const hadFocus = document.activeElement === button;
  button.hidden = isHidden;
  if (isHidden && hadFocus) query.focus();
}

function showLatest() {
  hide(latest, !conversation.running.length || isAtEnd());
}

// Sending and stopping

async function sendDraft() {
  sendsAfterEnd = false;
  note = problem = "";
  if (beginning) await beginning;
  const text = query.value.trim();
  if (!text) return;
  setDraft("");
  const sent = conversation.send(text);
  scrollToEnd();
  if (!(await sent) && !query.value) setDraft(text);
}

function stopAnswer() {
  problem = "";
  conversation.stop();
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!conversation.running.length) {
    sendDraft();
  } else if (query.value.trim()) {
    sendsAfterEnd = true;
    stopAnswer();
  }
  query.focus();
});

stop.addEventListener("click", stopAnswer);

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) stopAnswer();
});

another.addEventListener("click", async () => {
  if (beginning) return;
  sendsAfterEnd = false;
  problem = "";
  beginning = conversation.beginAnother();
  if (await beginning) {
    note = "This is a new conversation.";
    query.focus();
  }
  beginning = null;
  page.changed();
  if (sendsAfterEnd && !conversation.running.length) sendDraft();
});

// The draft, which is there again when the page is loaded again

function setDraft(text) {
  query.value = text;
  keepDraft();
}

function keepDraft() {
  sessionStorage.setItem("draft", query.value);
  page.changed();
}

query.addEventListener("input", keepDraft);

query.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    composer.requestSubmit();
  }
});

// Scrolling

latest.addEventListener("click", scrollToEnd);
addEventListener("scroll", showLatest, { passive: true });
addEventListener("resize", showLatest);

history.scrollRestoration = "manual";
setDraft(query.value || (sessionStorage.getItem("draft") ?? ""));
await conversation.update();
scrollToEnd();
