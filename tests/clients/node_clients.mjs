// Talks to the site as an app in Node would, through dify-client and dify-ai-provider, and
// prints what both have got: node node_clients.mjs ADDRESS
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { createDifyProvider } from "dify-ai-provider";
import { ChatClient } from "dify-client";

const [address] = process.argv.slice(2);
const USER = "abc-123";
const require = createRequire(import.meta.url);

async function* eventsOf(response) {
  for await (const line of createInterface({ input: response.data })) {
    if (line.startsWith("data: ")) yield JSON.parse(line.slice(6));
  }
}

async function errorOf(request) {
  try {
    await request;
  } catch (error) {
    return { status: error.response.status, body: error.response.data };
  }
}

// The version on npm has no method for the stop, so its general one sends it.
const stop = (client, taskId, user = USER) =>
  client.sendRequest("POST", `/chat-messages/${taskId}/stop`, { user });

async function viaDifyClient() {
  const client = new ChatClient("demo-key", `${address}/v1`);
  const agent = new ChatClient("demo-key", `${address}/agent/v1`);
  const stream = async (from, query) => {
    const events = [];
    const answer = await from.createChatMessage({}, query, USER, true, "c-1");
    for await (const event of eventsOf(answer)) events.push(event);
    return events;
  };
  const stopped = { events: [] };
  const answer = await client.createChatMessage({}, "wait", USER, true, "c-1");
  for await (const event of eventsOf(answer)) {
    stopped.events.push(event);
    if (event.answer === "two") {
      stopped.foreign = await errorOf(stop(client, event.task_id, "eve"));
      stopped.stop = (await stop(client, event.task_id)).data;
    }
  }
  return {
    version: require("dify-client/package.json").version,
    has_stop: "stopChatMessage" in client,
    stopped,
    finished: await stream(client, "finish"),
    failed: await stream(client, "fail"),
    agent: await stream(agent, "chairs"),
    blocking: (await client.createChatMessage({}, "finish", USER)).data,
    unknown: await errorOf(stop(client, "unknown")),
  };
}

async function viaAiProvider() {
  const model = (base) =>
    createDifyProvider({ baseURL: `${address}${base}/v1`, logger: false })("app", {
      apiKey: "demo-key",
      logger: false,
    });
  const options = (text) => ({
    prompt: [{ role: "user", content: [{ type: "text", text }] }],
    headers: { "user-id": USER },
  });
  const stream = async (base, query, meanwhile = () => {}) => {
    const parts = [];
    const answer = await model(base).doStream(options(query));
    for await (const part of answer.stream) {
      parts.push(part.error ? { ...part, error: String(part.error) } : part);
      await meanwhile(part);
    }
    return parts;
  };
  const taskOf = (part) => part.providerMetadata?.difyWorkflowData?.taskId;
  const client = new ChatClient("demo-key", `${address}/v1`);
  return {
    version: require("dify-ai-provider/package.json").version,
    stopped: await stream("", "wait", async (part) => {
      if (part.delta === "two") await stop(client, taskOf(part));
    }),
    finished: await stream("", "finish"),
    failed: await stream("", "fail"),
    agent: await stream("/agent", "chairs"),
    blocking: await model("").doGenerate(options("finish")),
  };
}

console.log(
  JSON.stringify({ client: await viaDifyClient(), provider: await viaAiProvider() }),
);
