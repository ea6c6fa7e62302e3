const form = document.getElementById("form");
const messages = document.getElementById("messages");
const stopButton = document.getElementById("stop"); // stop

function addMessage(role, text) {
  const message = document.createElement("p");
  message.className = role;
  message.textContent = text;
  messages.append(message);
  return message;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = new FormData(form);
  form.reset();
  stopButton.hidden = true; // stop
  addMessage("user", body.get("message"));
  const response = await fetch(form.action, { method: "POST", body });
  const { stream } = await response.json();
  const answer = addMessage("assistant", "");
  const source = new EventSource(stream);
  source.onmessage = (event) => {
    answer.textContent += JSON.parse(event.data);
  };
  source.onerror = () => source.close();
  source.addEventListener("done", () => source.close());
  source.addEventListener("done", () => (stopButton.hidden = true)); // stop
  source.addEventListener("task", ({ data }) => { // stop
    const headers = { "Content-Type": "application/json" }; // stop
    const stop = { method: "POST", headers, body: "{}" }; // stop
    stopButton.onclick = () => fetch(`/chat-messages/${data}/stop`, stop); // stop
    stopButton.hidden = false; // stop
  }); // stop
});
