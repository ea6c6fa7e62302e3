// Read answers with the AI SDK, and print what a page would show of them.
import { Chat } from "@ai-sdk/react";
import { DefaultChatTransport, readUIMessageStream } from "ai";

const [url, fullUrl] = process.argv.slice(2);
const user = { id: "u1", role: "user", parts: [{ type: "text", text: "Count" }] };
const headers = { Authorization: "Bearer demo-key" };
const transport = (model, server = url) =>
  new DefaultChatTransport({ api: `${server}/api/chat`, body: { model }, headers });

async function chat(model, { messages, onData } = {}) {
  const seen = { data: [] };
  const chat = new Chat({
    messages,
    transport: transport(model),
    onData: (part) => {
      seen.data.push(part);
      onData?.(chat);
    },
    onFinish: ({ message, messages, ...how }) => (seen.finish = how),
    onError: ({ message }) => (seen.error = message),
  });
  await (messages ? chat.sendMessage() : chat.sendMessage({ text: "Count" }));
  return { ...seen, status: chat.status, messages: chat.messages };
}

async function stopOnServer(chat, server = url) {
  const { taskId } = chat.lastMessage.metadata;
  const answer = await fetch(`${server}/v1/chat-messages/${taskId}/stop`, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify({ user: "alice" }),
  });
  if (!answer.ok) throw new Error(await answer.text());
}

// What useChat({resume: true}) does, in a page that was loaded while the answer runs.
async function resume(id, server = url) {
  let resuming;
  let error = null;
  const page = new Chat({
    id,
    messages: [user],
    transport: transport(id, server),
    onData: () => stopOnServer(page, server),
    onError: ({ message }) => (error = message),
  });
  const first = new Chat({
    id,
    transport: transport(id, server),
    onData: () => (resuming = page.resumeStream()),
  });
  await first.sendMessage({ text: "Count" });
  await resuming;
  const { status, messages } = page;
  await page.resumeStream();
  return { first: first.lastMessage, status, error, messages, later: page.messages };
}

async function readStream(model) {
  const stream = await transport(model).sendMessages({ chatId: "c1", messages: [user] });
  const chunks = [];
  const noted = stream.pipeThrough(
    new TransformStream({
      transform(chunk, controller) {
        chunks.push(chunk);
        controller.enqueue(chunk);
      },
    }),
  );
  let last;
  for await (const message of readUIMessageStream({ stream: noted })) last = message;
  return { types: chunks.map(({ type }) => type), message: last };
}

const earlier = { id: "a1", role: "assistant", parts: [{ type: "text", text: "Zero " }] };
console.log(
  JSON.stringify({
    read: await readStream("read"),
    whole: await chat("whole"),
    parts: await chat("parts"),
    pausing: await chat("pausing"),
    stopped: await chat("stopped", { onData: stopOnServer }),
    left: await chat("left", { onData: (chat) => chat.stop() }),
    failing: await chat("failing"),
    continued: await chat("continued", { messages: [user, earlier] }),
    resumed: await resume("resumed"),
    lost: await resume("lost", fullUrl),
  }),
);
