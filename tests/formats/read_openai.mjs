// Read and stop an answer with OpenAI's library, and print what it has shown.
import OpenAI from "openai";

const client = new OpenAI({ apiKey: "demo-key", baseURL: process.argv[2], maxRetries: 0 });
const ask = (model) =>
  client.chat.completions.create({
    model,
    messages: [{ role: "user", content: "Count" }],
    stream: true,
  });

const ids = new Set();
let text = "";
let last;
for await (const chunk of await ask("node")) {
  ids.add(chunk.id);
  last = chunk;
  const said = chunk.choices[0]?.delta.content ?? "";
  text += said;
  if (said) await client.post(`/chat-messages/${chunk.id}/stop`, { body: { user: "alice" } });
}

let error;
try {
  for await (const chunk of await ask("failing")) void chunk;
} catch (raised) {
  const { message, type } = raised;
  error = { name: raised.constructor.name, message, type };
}
console.log(JSON.stringify({ ids: [...ids], text, last, error }));
