// The real JavaScript clients against a running server: `openai` and `ollama`, with streams, tools and schemas.
//
//     node clients.mjs http://127.0.0.1:PORT
//
// Prints a line per check; the first that fails ends it with status 1.
import assert from "node:assert/strict";
import { Ollama } from "ollama";
import OpenAI from "openai";

const base = process.argv[2];
const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey: "unused", maxRetries: 0 });
const ollama = new Ollama({ host: base });
const messages = [{ role: "user", content: "Tell me about the sea." }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 }, days: { type: "integer", minimum: 1, maximum: 9 } },
  required: ["city", "days"],
  additionalProperties: false,
};
const weather = { type: "function", function: { name: "get_weather", description: "Tells the weather.", parameters } };

function chat(more) {
  return openai.chat.completions.create({ model: "any", messages, temperature: 0, max_tokens: 16, ...more });
}

function sound(text) {
  const { city, days } = JSON.parse(text);
  assert.ok(typeof city === "string" && days >= 1 && days <= 9, text);
}

const checks = {
  async "openai: whole and streamed"() {
    const whole = await chat({});
    let text = "";
    let usage;
    for await (const chunk of await chat({ stream: true, stream_options: { include_usage: true } })) {
      text += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.equal(usage.completion_tokens, 16);
  },
  async "openai: tools"() {
    const forced = { tools: [weather], tool_choice: "required", parallel_tool_calls: false, max_tokens: 200 };
    const call = (await chat(forced)).choices[0].message.tool_calls[0];
    assert.equal(call.function.name, "get_weather");
    sound(call.function.arguments);
    const streamed = await openai.chat.completions.stream({ model: "any", messages, temperature: 0, ...forced }).finalChatCompletion();
    assert.equal(streamed.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
  },
  async "openai: errors"() {
    await assert.rejects(chat({ tools: [{ type: "function", function: { name: "" } }] }), (error) => {
      return error.status === 400 && error.param === "tools[0].function.name";
    });
  },
  async "openai: responses"() {
    const whole = await openai.responses.create({ model: "any", input: "Tell me about the sea.", temperature: 0, max_output_tokens: 16 });
    let text = "";
    let last;
    for await (const event of await openai.responses.create({
      model: "any", input: "Tell me about the sea.", temperature: 0, max_output_tokens: 16, stream: true,
    })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event.type;
    }
    assert.equal(text, whole.output_text);
    assert.equal(last, "response.incomplete");
  },
  async "ollama: whole and streamed"() {
    const options = { temperature: 0, num_predict: 16 };
    const whole = await ollama.chat({ model: "any", messages, options });
    let text = "";
    for await (const part of await ollama.chat({ model: "any", messages, options, stream: true })) text += part.message.content;
    assert.equal(text, whole.message.content);
    assert.equal(whole.eval_count, 16);
  },
  async "ollama: a schema"() {
    const answer = await ollama.chat({ model: "any", messages, format: parameters, options: { temperature: 0, num_predict: 200 } });
    sound(answer.message.content);
  },
  async "ollama: tools"() {
    const called = { role: "assistant", content: "", tool_calls: [{ function: { name: "get_weather", arguments: { city: "Paris", days: 1 } } }] };
    const turns = [...messages, called, { role: "tool", tool_name: "get_weather", content: "Sun." }];
    const answer = await ollama.chat({ model: "any", messages: turns, tools: [weather], options: { temperature: 0, num_predict: 8 } });
    assert.ok(answer.done);
  },
};

for (const [name, check] of Object.entries(checks)) {
  const begun = performance.now();
  await check();
  console.log(`${name}: ok, ${((performance.now() - begun) / 1000).toFixed(1)} s`);
}
