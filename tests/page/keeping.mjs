// Storage: reloads, the list of conversations, files, several tabs, and untrusted answers.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { answerText, ask, button, field, finished, grown, lastAnswer, newChat, set } from "./browser.mjs";
import { LONG } from "./conversation.mjs";

const item = (page, title) => page.getByRole("navigation", { name: "Conversations" }).getByRole("link", { name: title, exact: true });

/** Waits until the database holds an unfinished answer of at least that many characters. */
async function stored(page, characters) {
  const longest = async () => {
    const done = (request) => new Promise((resolve, reject) => Object.assign(request, { onsuccess: () => resolve(request.result), onerror: reject }));
    const [{ name }] = await indexedDB.databases();
    const database = await done(indexedDB.open(name));
    const messages = await done(database.transaction("messages").objectStore("messages").getAll());
    database.close();
    return Math.max(0, ...messages.filter((message) => message.status === "streaming").map((message) => message.content.length));
  };
  const end = Date.now() + 30_000;
  while ((await page.evaluate(longest)) < characters) {
    assert.ok(Date.now() < end, "the answer is not saved while it is written");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** An export file whose messages try to inject markup and scripts. */
function evilFile() {
  const time = new Date(0).toISOString();
  const content = [
    "<script>globalThis.evil = 1</script><img src=x onerror='globalThis.evil = 2'>",
    "[click](javascript:globalThis.evil=3) ![pixel](https://example.invalid/pixel.png) <b onclick='globalThis.evil=4'>bold</b>",
    "<svg onload='globalThis.evil=5'></svg><iframe src='https://example.invalid/'></iframe><style>body{display:none}</style>",
    "[site](https://example.invalid/) and `code`",
    "```js\nconst safe = '<img src=x onerror=globalThis.evil=6>';\n```",
  ].join("\n\n");
  const messages = [
    { id: "1", parent: null, role: "user", content: "<img src=x onerror='globalThis.evil=7'>", created_at: time },
    { id: "2", parent: "1", role: "assistant", content, created_at: time },
  ];
  return JSON.stringify({ format: "satchel-conversations", version: 1, conversations: [{ title: "<b>Evil</b>", created_at: time, updated_at: time, head: "2", messages }] });
}

export const checks = {
  "a conversation survives a reload": async ({ page }) => {
    await newChat(page);
    await ask(page, "Name three colours");
    await finished(page);
    const text = await answerText(page);
    await page.reload();
    await finished(page);
    assert.equal(await answerText(page), text);
    assert.equal(await item(page, "Name three colours").getAttribute("aria-current"), "page");
  },

  "an unsent draft survives a reload": async ({ page }) => {
    await field(page).fill("half a thou");
    await page.reload();
    await page.waitForFunction(() => document.getElementById("message")?.value === "half a thou");
    await field(page).fill("");
  },

  "a reload in the middle of an answer keeps the partial text": async ({ page }) => {
    await newChat(page);
    await set(page, "Max tokens", "");
    await ask(page, LONG);
    await grown(page, 400);
    // A busy machine writes to the database later than the four times a second that the page asks for.
    await stored(page, 100);
    const before = await answerText(page);
    await page.reload();
    await page.getByText("The page was closed or reloaded before the answer was complete.").waitFor();
    const after = await answerText(page);
    assert.ok(after.length > 20 && after.slice(0, 20) === before.slice(0, 20), `before: ${before}\nafter: ${after}`);
    await button(page, "Regenerate answer").waitFor();
  },

  "conversations are searched by content, renamed, deleted, and restored": async ({ page }) => {
    await page.keyboard.press("Control+K");
    await page.keyboard.type("THREE colours");
    await page.waitForFunction(() => document.querySelectorAll(".conversation-item").length === 1);
    await item(page, "Name three colours").click();
    await page.keyboard.press("F2");
    await page.waitForFunction(() => document.activeElement?.matches("input.rename") === true);
    await page.keyboard.type("Colours");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { level: 1, name: "Colours" }).waitFor();
    // Focus returns to the list once the title is saved; until then, key presses could go to the wrong element.
    await page.waitForFunction(() => document.activeElement?.matches(".conversation-item a") === true);
    await page.getByLabel("Search conversations").fill("");
    await page.waitForFunction(() => document.querySelectorAll(".conversation-item").length > 1);
    await item(page, "Colours").focus();
    await page.keyboard.press("Delete");
    await item(page, "Colours").waitFor({ state: "detached" });
    await button(page, "Undo").click();
    await page.getByRole("heading", { level: 1, name: "Colours" }).waitFor();
    await lastAnswer(page).waitFor();
  },

  "deleting a conversation stops its answer": async ({ page }) => {
    await newChat(page);
    await set(page, "Max tokens", "");
    await ask(page, LONG);
    await grown(page, 40);
    const ended = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/v1/chat/completions"));
    await button(page.getByRole("main"), "Actions for this chat").click();
    await page.getByRole("menuitem", { name: "Delete" }).click();
    await page.getByRole("heading", { level: 1, name: "New chat" }).waitFor();
    await ended;
    await item(page, "Colours").click();
    await page.getByRole("heading", { level: 1, name: "Colours" }).waitFor();
  },

  "an exported conversation can be imported, and read as Markdown": async ({ page }) => {
    const save = async (name) => {
      await button(page, "Actions for this chat").click();
      const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("menuitem", { name }).click()]);
      return { name: download.suggestedFilename(), text: readFileSync(await download.path(), "utf8") };
    };
    const text = await answerText(page);
    const json = await save("Export as JSON");
    assert.equal(json.name, "colours.json");
    const markdown = await save("Export as Markdown");
    assert.equal(markdown.name, "colours.md");
    assert.match(markdown.text, /^# Colours\n\n[^]*## You\n\nName three colours\n\n## /);
    const address = page.url();
    await page.getByLabel("File to import").setInputFiles({ name: json.name, mimeType: "application/json", buffer: Buffer.from(json.text) });
    await page.getByText("Imported “Colours”.").first().waitFor();
    assert.notEqual(page.url(), address);
    await finished(page);
    assert.equal(await answerText(page), text);
    assert.equal(await item(page, "Colours").count(), 2);
    await page.getByLabel("File to import").setInputFiles({ name: "x.json", mimeType: "application/json", buffer: Buffer.from('{"format": "x"}') });
    await page.getByText("x.json was not imported: the file is not an export of Satchel").first().waitFor();
  },

  "an answer cannot run scripts, load resources or navigate": async ({ page }) => {
    await page.getByLabel("File to import").setInputFiles({ name: "evil.json", mimeType: "application/json", buffer: Buffer.from(evilFile()) });
    await page.getByRole("heading", { level: 1, name: "<b>Evil</b>" }).waitFor();
    await page.locator(".code-block .hljs-keyword").waitFor();
    const found = await page.evaluate(() => ({
      evil: globalThis.evil,
      elements: document.querySelectorAll(".transcript :is(script, img, iframe, style, form, object, [onclick], [onerror])").length,
      links: [...document.querySelectorAll(".markdown a")].map((link) => [link.textContent, link.href, link.rel, link.target]),
    }));
    assert.equal(found.evil, undefined);
    assert.equal(found.elements, 0);
    assert.deepEqual(found.links, [
      ["Image: pixel", "https://example.invalid/pixel.png", "noopener noreferrer", "_blank"],
      ["site", "https://example.invalid/", "noopener noreferrer", "_blank"],
    ]);
    await page.getByText("globalThis.evil = 1").first().waitFor();
  },

  "code is copied with its button": async ({ context, page }) => {
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await button(page, "Copy js code").click();
    await page.getByText("Copied", { exact: true }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "const safe = '<img src=x onerror=globalThis.evil=6>';\n");
  },

  "two tabs see each other's work and lose nothing": async ({ context, page }) => {
    await newChat(page);
    await ask(page, "Hello from the first tab");
    await finished(page);
    const other = await context.newPage();
    await other.goto(page.url());
    await finished(other);
    await set(other, "Max tokens", "");
    await ask(other, LONG);
    await grown(other, 40);
    await page.locator("article.question", { hasText: "lighthouse keeper" }).waitFor();
    await page.waitForFunction(() => (document.querySelector("article.answer:last-of-type .markdown")?.textContent?.length ?? 0) > 20);
    assert.equal(await page.getByText("The page was closed or reloaded").count(), 0, "the other tab is still writing");
    await other.locator("body").press("Escape");
    await finished(other);
    await page.getByText("You stopped this answer.").waitFor();
    assert.equal(await answerText(page), await answerText(other));
    await other.close();
    await page.bringToFront();
    await set(page, "Max tokens", "12");
  },
};
