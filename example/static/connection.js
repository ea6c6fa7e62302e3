const UNREACHABLE = "The server cannot be reached. Trying again…";
const SESSION_OVER = "Your session is over. Load the page again to begin a new one.";
/** Milliseconds between two tries: the first and the longest. */
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;

/** Whether the server answers. An outage has one text, however many requests fail. */
export const connection = {
  problem: "",
  isOver: false,
  onChange() {},

  lost(text) {
    change(text ?? (connection.problem || UNREACHABLE));
  },
  found() {
    connection.isOver = false;
    change("");
  },
  /** Nobody is logged in any more: nothing is tried again by itself. */
  over() {
    connection.isOver = true;
    change(SESSION_OVER);
  },
};

function change(problem) {
  if (problem === connection.problem) return;
  connection.problem = problem;
  connection.onChange();
}

/** Pauses between tries, each longer than the one before. */
export class Pauses {
  #next = FIRST_PAUSE;

  reset() {
    this.#next = FIRST_PAUSE;
  }

  /** Wait, but no longer than until the network or the person is back. */
  async wait() {
    const pause = this.#next;
    this.#next = Math.min(2 * pause, LONGEST_PAUSE);
    const waiting = new AbortController();
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      waiting.signal.addEventListener("abort", () => clearTimeout(timer));
      onReturn(resolve, waiting.signal);
    });
    waiting.abort();
  }
}

/** Call back when the network is back, or whoever looks at this page. */
export function onReturn(callback, signal) {
  const seen = () => document.hidden || callback();
  addEventListener("online", seen, { signal });
  addEventListener("focus", seen, { signal });
  // A page that is only being loaded asks by itself.
  addEventListener("pageshow", (event) => event.persisted && seen(), { signal });
  document.addEventListener("visibilitychange", seen, { signal });
}

/** Send a request until the server answers it, or it is not wanted any more. */
export async function persist(request, isWanted = () => true) {
  const pauses = new Pauses();
  do {
    try {
      return await request();
    } catch {
      connection.lost();
    }
    await pauses.wait();
  } while (isWanted());
}

/** Send JSON. A response says that the server is there, whatever its status. */
export async function post(url, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const init = { method: "POST", headers, body: JSON.stringify(body), signal };
  const response = await fetch(url, init);
  if (response.status === 401) connection.over();
  else connection.found();
  return response;
}
