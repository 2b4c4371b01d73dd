import { expect, test } from "vitest";
import { readFacts } from "./facts";
import { ApiFailure, explain } from "./failures";

test("each failure says what happened and what helps", () => {
  expect(explain(new ApiFailure("unreachable", "x")).detail).toContain("Start it again");
  const full = explain(new ApiFailure("refused", "the prompt has 3000 tokens", 400, "context_length_exceeded"));
  expect(full.title).toContain("no longer fits");
  expect(full.detail).toContain("The prompt has 3000 tokens. Start a new conversation");
  expect(explain(new ApiFailure("refused", "queue is full", 503)).title).toContain("busy");
  expect(explain(new Error("odd")).detail).toBe("odd");
});

test("facts from another version of the server are still read", () => {
  expect(readFacts({ name: 3, defaults: { temperature: "hot", top_k: 40 } })).toMatchObject({ name: "Model", contextLength: null, defaults: { temperature: null, top_k: 40 } });
  expect(readFacts(null).name).toBe("Model");
});
