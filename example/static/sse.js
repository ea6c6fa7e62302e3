/**
 * Read the body of a fetch() as server-sent events, one {type, data, id} at a time.
 *
 * https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 * An event without data, such as a ping, is passed over; one that is cut off is dropped.
 * onBytes is called whenever something comes, pings included.
 */
export async function* readEvents(body, onBytes = () => {}) {
  const reader = body.getReader();
  // Keeps the bytes of a character that is split between two reads.
  const decoder = new TextDecoder();
  let text = "";
  let type = "";
  let data = [];
  let id = "";
  try {
    for (let done = false; !done; ) {
      const read = await reader.read();
      onBytes();
      done = read.done;
      text += decoder.decode(read.value, { stream: !done });
      // A CR at the very end may be half of a CRLF.
      const lines = text.split(/\r\n|\n|\r(?!$)/);
      text = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { type: type || "message", data: data.join("\n"), id };
          type = "";
          data = [];
          continue;
        }
        const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (field === "data") data.push(value);
        else if (field === "event") type = value;
        else if (field === "id") id = value;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
