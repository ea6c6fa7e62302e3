import { useChat } from "@ai-sdk/react";
import { useState } from "react";
import { createRoot } from "react-dom/client";

function Message({ message }) {
  const texts = message.parts.filter((part) => part.type === "text");
  return <p className={message.role}>{texts.map((part) => part.text).join("")}</p>;
}

function Page({ id, history }) {
  const [text, setText] = useState("");
  const { messages, sendMessage, status, error } = useChat({ id, messages: history });
  const { taskId } = messages.at(-1)?.metadata ?? {}; // stop
  const headers = { "Content-Type": "application/json" }; // stop
  const body = { method: "POST", headers, body: "{}" }; // stop
  const stop = () => fetch(`/api/chat-messages/${taskId}/stop`, body); // stop

  function send(event) {
    event.preventDefault();
    sendMessage({ text });
    setText("");
  }

  return (
    <form onSubmit={send}>
      {messages.map((message) => (
        <Message key={message.id} message={message} />
      ))}
      <label>
        Message <input value={text} onChange={(event) => setText(event.target.value)} />
      </label>
      <button disabled={status !== "ready"}>Send</button>
      {status === "streaming" && <button type="button" onClick={stop}>Stop</button>} {/* stop */}
      {error && <p role="alert">{error.message}</p>}
    </form>
  );
}

const id = new URLSearchParams(location.search).get("chat") ?? "first";
const response = await fetch(`/api/chat?id=${encodeURIComponent(id)}`);
const root = createRoot(document.getElementById("root"));
root.render(<Page id={id} history={await response.json()} />);
