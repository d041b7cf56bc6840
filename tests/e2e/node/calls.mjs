// One call of the official Node SDK, chosen by the first argument; its outcome is printed as JSON.
// The key and the base URL come from the SDK's own environment variables.

import OpenAI, { toFile } from "openai";

const client = new OpenAI({ maxRetries: 0 });
const model = "gpt-5.4-mini";
const messages = [{ role: "user", content: "Hello" }];

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

const calls = {
  async chat() {
    const { data, response } = await client.chat.completions
      .create({ model, messages })
      .withResponse();
    return { answer: data, cost: response.headers.get("x-headgate-cost") };
  },

  async chatStream() {
    return collect(await client.chat.completions.create({ model, messages, stream: true }));
  },

  async chatRunner() {
    const runner = client.chat.completions.stream({ model, messages });
    return runner.finalChatCompletion();
  },

  async responses() {
    return client.responses.create({ model, input: "Hello" });
  },

  async responsesStream() {
    return collect(await client.responses.create({ model, input: "Hello", stream: true }));
  },

  async embeddings() {
    const answer = await client.embeddings.create({
      model: "text-embedding-3-small",
      input: ["one", "two"],
      dimensions: 8,
    });
    return { lengths: answer.data.map((each) => each.embedding.length), usage: answer.usage };
  },

  async files() {
    const content = "a line\n".repeat(10_000);
    const made = await client.files.create({
      file: await toFile(Buffer.from(content), "lines.txt"),
      purpose: "user_data",
    });
    const read = await (await client.files.content(made.id)).text();
    const { deleted } = await client.files.delete(made.id);
    return { bytes: made.bytes, same: read === content, deleted };
  },

  async models() {
    const ids = [];
    for await (const each of client.models.list()) ids.push(each.id);
    return ids;
  },
};

try {
  console.log(JSON.stringify({ value: await calls[process.argv[2]]() }));
} catch (error) {
  const { name, status, code, type, requestID, message } = error;
  const kind = error.constructor.name;
  console.log(JSON.stringify({ error: { kind, name, status, code, type, requestID, message } }));
}
