import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Message } from "../store/types";
import { message } from "../store/samples";
import { type Step, promptOf, readChunk, streamAnswer } from "./chat";
import { ApiFailure } from "./failures";

const say = (role: Message["role"], content: string): Message => message({ role, content });

test("the prompt leaves out empty answers and joins consecutive messages of the same role", () => {
  const path = [say("user", "a"), say("assistant", ""), say("user", "b"), say("assistant", "c"), say("user", "d")];
  expect(promptOf("s", path)).toEqual([
    { role: "system", content: "s" },
    { role: "user", content: "a\n\nb" },
    { role: "assistant", content: "c" },
    { role: "user", content: "d" },
  ]);
  expect(promptOf(null, [say("user", "a")])).toEqual([{ role: "user", content: "a" }]);
  expect(promptOf("", [say("user", "a")])[0]).toEqual({ role: "system", content: "" });
});

test("chunks give text, the finish reason, and the timings", () => {
  expect(readChunk('{"choices":[{"delta":{"content":"x"},"finish_reason":null}]}')).toEqual([{ type: "text", content: "x", reasoning: "" }]);
  expect(readChunk('{"choices":[{"delta":{"role":"assistant","content":""}}]}')).toEqual([]);
  expect(readChunk('{"choices":[{"delta":{},"finish_reason":"length"}]}')).toEqual([{ type: "end", reason: "length" }]);
  expect(readChunk('{"choices":[],"usage":{},"timings":{"generated_tokens":3}}')).toEqual([{ type: "timings", timings: { generated_tokens: 3 } }]);
  expect(() => readChunk('{"error":{"message":"out of memory"}}')).toThrow("out of memory");
  expect(() => readChunk("{")).toThrow(ApiFailure);
});

beforeEach(() => vi.stubGlobal("document", { baseURI: "http://localhost/" }));
afterEach(() => vi.unstubAllGlobals());

async function collect(response: Response | Error): Promise<{ steps: Step[]; failure: unknown; body: Record<string, unknown> }> {
  let body = {};
  vi.stubGlobal("fetch", async (_address: URL, options: RequestInit) => {
    body = JSON.parse(String(options.body)) as Record<string, unknown>;
    if (response instanceof Error) throw response;
    return response;
  });
  const steps: Step[] = [];
  try {
    for await (const step of streamAnswer("m", [{ role: "user", content: "hi" }], { top_k: 3 }, new AbortController().signal)) steps.push(step);
    return { steps, failure: null, body };
  } catch (failure) {
    return { steps, failure, body };
  }
}

test("a whole answer", async () => {
  const stream = 'data: {"choices":[{"delta":{"content":"A"}}]}\n\ndata: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n';
  const { steps, failure, body } = await collect(new Response(stream));
  expect(failure).toBeNull();
  expect(steps).toEqual([{ type: "text", content: "A", reasoning: "" }, { type: "end", reason: "stop" }]);
  expect(body).toMatchObject({ model: "m", stream: true, stream_options: { include_usage: true }, top_k: 3 });
  expect(body).not.toHaveProperty("temperature");
});

test("failures are classified as unreachable, refused or cut", async () => {
  expect((await collect(new TypeError("fetch failed"))).failure).toMatchObject({ kind: "unreachable" });
  const refused = new Response('{"error":{"message":"too long","code":"context_length_exceeded"}}', { status: 400 });
  expect((await collect(refused)).failure).toMatchObject({ kind: "refused", status: 400, code: "context_length_exceeded" });
  const cut = await collect(new Response('data: {"choices":[{"delta":{"content":"A"}}]}\n\n'));
  expect(cut.steps).toHaveLength(1);
  expect(cut.failure).toMatchObject({ kind: "cut" });
  const html = await collect(new Response("<h1>Bad gateway</h1>", { status: 502 }));
  expect(html.failure).toMatchObject({ kind: "refused", status: 502 });
});
