import { Pauses, connection } from "./connection.js";
import { readEvents } from "./sse.js";

/** Milliseconds without a byte until a connection is taken for dead; a ping comes each 10 s. */
const SILENCE = 30_000;

/**
 * Read an answer from the body of a response, until it ends or the connection breaks.
 *
 * Returns whether the server said that the answer has failed.
 */
export async function readAnswer(exchange, body) {
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(exchange.hangUp, SILENCE);
  };
  heard();
  exchange.isConnected = true;
  try {
    for await (const { data, id } of readEvents(body, heard)) {
      if (!exchange.runs) break;
      const event = JSON.parse(data);
      if (event.event === "error") return true;
      exchange.take(event, id);
    }
  } catch {
    // The connection broke, or was hung up on: the next one goes on where it ended.
  } finally {
    clearTimeout(timer);
    exchange.isConnected = false;
  }
  return false;
}

/**
 * Follow an answer that this tab has not asked for, or whose connection broke.
 *
 * An EventSource would reconnect as well, but does not tell a 404 from an outage.
 * update() asks the server what has become of the conversation.
 */
export async function follow(exchange, update) {
  const pauses = new Pauses();
  while (exchange.runs && !connection.isOver) {
    // A browser opens six connections to a server. Tabs in the background must not hold
    // those that a stop needs.
    await untilVisible();
    const line = new AbortController();
    exchange.hangUp = () => line.abort();
    const onHidden = () => document.hidden && line.abort();
    document.addEventListener("visibilitychange", onHidden, { signal: line.signal });
    const position = exchange.position;
    await connect(exchange, line.signal, update);
    line.abort();
    if (exchange.position !== position) pauses.reset();
    if (exchange.runs && !document.hidden) await pauses.wait();
  }
}

async function connect(exchange, signal, update) {
  const url = `/web/chat-messages/${encodeURIComponent(exchange.taskId)}/events`;
  const headers = exchange.position ? { "Last-Event-ID": exchange.position } : {};
  let response;
  try {
    response = await fetch(url, { headers, signal });
  } catch {
    if (!signal.aborted) connection.lost();
    return;
  }
  if (response.status === 200) {
    connection.found();
    exchange.beginsAnew = !exchange.position;
    if (!(await readAnswer(exchange, response.body))) return;
    // Its source has failed, or its worker was killed and has kept no end.
    await update();
    exchange.end("interrupted");
  } else if (response.status === 204 || response.status === 404) {
    await update();
  } else if (response.status === 401 || response.status === 403) {
    connection.over();
  } else {
    connection.lost();
  }
}

function untilVisible() {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    look();
  });
}
