// Anthropic's official SDK for Node, unchanged but for its base URL. Prints one JSON object.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({
  baseURL: process.env.GATEWAY_URL,
  apiKey: process.env.GATEWAY_KEY,
  maxRetries: 0,
});
const base = {
  model: "gpt-5.4-mini",
  max_tokens: 2000,
  messages: [{ role: "user", content: "Hello" }],
};
const weather = {
  name: "get_weather",
  description: "Get the weather of a city.",
  input_schema: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
  },
};
const surfaces = {
  plain: {},
  thinking: { thinking: { type: "enabled", budget_tokens: 1500 } },
  tools: {
    tools: [weather, { ...weather, name: "get_forecast" }],
    tool_choice: { type: "any" },
  },
  stop: { stop_sequences: ["not a model"] },
  search: { tools: [{ type: "web_search_20250305", name: "web_search" }] },
};

const found = { streams: {}, errors: {} };
for (const [name, fields] of Object.entries(surfaces)) {
  const whole = await client.messages.create({ ...base, ...fields });
  const kinds = [];
  const stream = client.messages.stream({ ...base, ...fields });
  stream.on("streamEvent", (event) => kinds.push(event.type));
  const streamed = await stream.finalMessage();
  found.streams[name] = { whole, streamed, kinds };
}

const turns = [...base.messages];
const rounds = [];
while (rounds.length < 5) {
  const stream = client.beta.messages.stream({ ...base, messages: turns, tools: [weather] });
  const message = await stream.finalMessage();
  rounds.push(message.stop_reason);
  if (message.stop_reason !== "tool_use") break;
  const results = message.content
    .filter((block) => block.type === "tool_use")
    .map((block) => ({ type: "tool_result", tool_use_id: block.id, content: "Sunny" }));
  turns.push({ role: "assistant", content: message.content }, { role: "user", content: results });
}
found.rounds = rounds;

found.tokens = (await client.messages.countTokens({ model: base.model, messages: base.messages })).input_tokens;
found.models = [];
for await (const model of client.models.list({ limit: 5 })) found.models.push(model.id);
for (const [name, fields] of Object.entries({
  limit: { max_tokens: 0 },
  model: { model: "nonexistent-model" },
})) {
  try {
    await client.messages.create({ ...base, ...fields });
  } catch (error) {
    found.errors[name] = {
      class: error.constructor.name,
      type: error.error?.error?.type,
      requestId: error.requestID,
    };
  }
}
console.log(JSON.stringify(found));
