import "fake-indexeddb/auto";
import { beforeEach, expect, test } from "vitest";
import { ConversationGone, Database } from "./database";
import { conversation, message } from "./samples";

let db: Database;
let count = 0;

beforeEach(async () => {
  db = await Database.open(() => undefined, `test-${++count}`);
  await db.addConversations([{ conversation: conversation({ id: "c1" }), messages: [] }]);
});

test("adding a message makes it the head of its conversation", async () => {
  const question = message({ content: "Where is Ångström?" });
  await db.addMessage(question);
  expect(await db.messages("c1")).toEqual(new Map([[question.id, question]]));
  expect(await db.conversation("c1")).toMatchObject({ headId: question.id, updatedAt: question.createdAt });
});

test("two tabs that write at once lose nothing", async () => {
  const other = await Database.open(() => undefined, `test-${count}`);
  const question = message({});
  await db.addMessage(question);
  const answers = Array.from({ length: 20 }, () => message({ role: "assistant", parentId: question.id }));
  await Promise.all(answers.map((answer, index) => (index % 2 ? db : other).addMessage(answer)));
  await Promise.all([
    db.changeConversation("c1", { title: "renamed here" }),
    other.changeConversation("c1", { sampling: { top_k: 7 } }),
    db.changeMessage(question.id, { content: "changed" }),
    other.changeMessage(question.id, { reasoning: "kept" }),
  ]);
  expect((await db.messages("c1")).size).toBe(21);
  expect(await other.conversation("c1")).toMatchObject({ title: "renamed here", sampling: { top_k: 7 } });
  expect((await db.messages("c1")).get(question.id)).toMatchObject({ content: "changed", reasoning: "kept" });
  other.close();
});

test("deletion can be undone until it is purged", async () => {
  const question = message({});
  await db.addMessage(question);
  await db.changeConversation("c1", { deletedAt: 1000 });
  expect(await db.conversations()).toEqual([]);
  await expect(db.addMessage(message({}))).rejects.toThrow(ConversationGone);
  await db.purge(1000);
  await db.changeConversation("c1", { deletedAt: null });
  expect(await db.conversation("c1")).toMatchObject({ headId: question.id });
  await db.changeConversation("c1", { deletedAt: 1000 });
  await db.purge(1001);
  expect(await db.changeConversation("c1", { deletedAt: null })).toBe(false);
  expect((await db.messages("c1")).size).toBe(0);
  expect(await db.changeMessage(question.id, { content: "" })).toBe(false);
});

test("an answer is removed only if it has no children", async () => {
  const question = message({});
  const answer = message({ role: "assistant", parentId: question.id });
  await db.addMessage(question);
  await db.addMessage(answer);
  await db.removeLeaf(question.id);
  expect((await db.messages("c1")).size).toBe(2);
  await db.removeLeaf(answer.id);
  expect((await db.messages("c1")).size).toBe(1);
  expect(await db.conversation("c1")).toMatchObject({ headId: question.id });
});

test("the most recently used comes first, and search ignores case", async () => {
  await db.addConversations([{ conversation: conversation({ id: "c2", updatedAt: 5 }), messages: [message({ conversationId: "c2", content: "The ÄRMEL of a coat" })] }]);
  expect((await db.conversations()).map((one) => one.id)).toEqual(["c2", "c1"]);
  expect(await db.conversationsWith("ärmel")).toEqual(new Set(["c2"]));
  expect(await db.conversationsWith("nothing")).toEqual(new Set());
});

test("the page closes the database, and is told, when a newer version opens it", async () => {
  let closed = false;
  const name = `test-versions-${count}`;
  await Database.open(() => (closed = true), name);
  await new Promise<void>((resolve, reject) => {
    const request = indexedDB.open(name, 2);
    request.onsuccess = () => resolve();
    request.onerror = () => reject(request.error ?? new Error("blocked"));
  });
  expect(closed).toBe(true);
});
