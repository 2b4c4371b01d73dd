import { expect, test } from "vitest";
import { conversation, message } from "./samples";
import { type Entry, ImportError, fileName, fromJson, toJson, toMarkdown } from "./transfer";

const question = message({ id: "q", content: "Why?\n\n```js\n1\n```" });
const first = message({ id: "a", parentId: "q", role: "assistant", content: "Because.", status: "stopped", model: "SmolLM2" });
const second = message({
  id: "b",
  parentId: "q",
  role: "assistant",
  content: "So.",
  reasoning: "hm",
  finishReason: "length",
  failure: { title: "t", detail: "d" },
  timings: { prompt_tokens: 1, cached_tokens: 0, prompt_ms: 2, prompt_per_second: 3, generated_tokens: 4, generated_ms: 5, generated_per_second: 6, context_used: 7, context_length: 8 },
});
const entry: Entry = { conversation: conversation({ title: "Why?", systemPrompt: "Be brief", sampling: { top_k: 1, seed: 4 }, headId: "a" }), messages: [question, first, second] };
const text = toJson([entry], new Date(0));

test("an export can be imported without loss, under new ids", () => {
  const [read] = fromJson(text) as [Entry];
  expect(read.conversation).toMatchObject({ ...entry.conversation, id: read.conversation.id, headId: read.messages[1]?.id });
  expect(read.conversation.id).toMatch(/^[0-9a-f]{32}$/);
  const names = new Map(entry.messages.map((one, index) => [one.id, read.messages[index]?.id]));
  for (const [index, original] of entry.messages.entries()) {
    const parentId = original.parentId === null ? null : names.get(original.parentId);
    expect(read.messages[index]).toEqual({ ...original, id: names.get(original.id), parentId, conversationId: read.conversation.id });
  }
  expect(fromJson(text)[0]?.conversation.id).not.toBe(read.conversation.id);
});

test("an answer that is being written is exported as interrupted", () => {
  const [read] = fromJson(toJson([{ ...entry, messages: [question, { ...first, status: "streaming" }] }], new Date(0))) as [Entry];
  expect(read.messages[1]?.status).toBe("interrupted");
});

type Json = Record<string, unknown>;
const broken: [what: string, change: (root: Json, conversation: Json, message: Json) => void, says: string][] = [
  ["another format", (root) => (root.format = "x"), "not an export of Satchel"],
  ["a later version", (root) => (root.version = 2), "version 2"],
  ["no conversations", (root) => (root.conversations = []), "no conversation"],
  ["conversations of a wrong type", (root) => (root.conversations = {}), "conversations is not a list"],
  ["a title that is a number", (_, one) => (one.title = 3), "conversations[0].title is not a text"],
  ["a wrong time", (_, one) => (one.created_at = "never"), "conversations[0].created_at is not a time"],
  ["a head that is not there", (_, one) => (one.head = "zz"), "conversations[0].head names a message"],
  ["a setting that is a text", (_, one) => (one.sampling = { top_p: "1" }), "sampling.top_p is not a number"],
  ["an unknown role", (_, __, one) => (one.role = "system"), "messages[0].role is not one of"],
  ["a content that is a list", (_, __, one) => (one.content = []), "messages[0].content is not a text"],
  ["a parent that is not there", (_, __, one) => (one.parent = "zz"), "messages[0].parent names a message"],
  ["a circle", (_, __, one) => (one.parent = "a"), "follows itself"],
  ["an id used twice", (_, __, one) => (one.id = "a"), "used twice"],
];

test.each(broken)("%s is refused, with its place", (_what, change, says) => {
  const root = JSON.parse(text) as Json;
  const one = (root.conversations as Json[])[0] as Json;
  change(root, one, (one.messages as Json[])[0] as Json);
  expect(() => fromJson(JSON.stringify(root))).toThrow(ImportError);
  expect(() => fromJson(JSON.stringify(root))).toThrow(says);
});

test("a file that is not JSON is refused", () => {
  expect(() => fromJson("# Hello")).toThrow("not JSON");
  expect(() => fromJson("[]")).toThrow("not an object");
});

test("Markdown has only the branch that is shown", () => {
  expect(toMarkdown(entry)).toBe("# Why?\n\n> **System prompt:** Be brief\n\n## You\n\nWhy?\n\n```js\n1\n```\n\n## SmolLM2\n\nBecause.\n");
});

test("file names", () => {
  expect(fileName("Über: ../../etc/passwd?", "md")).toBe("über-etc-passwd.md");
  expect(fileName("???", "json")).toBe("conversation.json");
});
