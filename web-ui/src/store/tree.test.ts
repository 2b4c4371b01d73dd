import { expect, test } from "vitest";
import { message } from "./samples";
import { alternatives, newestLeaf, pathTo, usableHead } from "./tree";
import type { Message } from "./types";

const tree = (...list: Message[]): Map<string, Message> => new Map(list.map((one) => [one.id, one]));
const ids = (list: Message[]): string => list.map((one) => one.id).join(" ");

const q = message({ id: "q" });
const a = message({ id: "a", parentId: "q", role: "assistant" });
const b = message({ id: "b", parentId: "q", role: "assistant" });
const next = message({ id: "next", parentId: "a" });
const all = tree(q, a, b, next);

test("the path to the head, alternatives, and the newest end", () => {
  expect(ids(pathTo(all, "next"))).toBe("q a next");
  expect(ids(pathTo(all, "b"))).toBe("q b");
  expect(ids(alternatives(all, b))).toBe("a b");
  expect(newestLeaf(all, "a")).toBe("next");
  expect(newestLeaf(all, "q")).toBe("b");
});

test("walking a damaged tree terminates", () => {
  const x = message({ id: "x", parentId: "y" });
  const y = message({ id: "y", parentId: "x" });
  expect(pathTo(tree(x, y), "x")).toHaveLength(2);
  expect(["x", "y"]).toContain(newestLeaf(tree(x, y), "x"));
  expect(pathTo(all, "gone")).toEqual([]);
  expect(usableHead(all, "gone")).toBe("next");
  expect(usableHead(new Map(), null)).toBeNull();
});
