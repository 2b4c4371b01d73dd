// Conversations: sending, streaming, stopping, regenerating, editing, and error messages.

import assert from "node:assert/strict";
import { answerText, answers, ask, button, field, finished, grown, lastAnswer, newChat, set } from "./browser.mjs";

export const LONG = "Slow: write a very long story about a lighthouse keeper, in many chapters.";

export const checks = {
  "the page opens, says what it runs, and waits for a message": async ({ page }) => {
    await page.locator(".welcome-facts", { hasText: "tokens of context" }).waitFor();
    assert.equal(await page.evaluate(() => document.activeElement?.id), "message");
    const name = await page.locator(".welcome h2").innerText();
    assert.equal(await page.title(), name);
    assert.equal(await page.getByRole("main").count(), 1);
  },

  "settings are checked, kept, and used for new chats": async ({ page }) => {
    await page.keyboard.press("Control+,");
    await page.getByLabel("Temperature", { exact: true }).fill("900");
    await page.getByText("Temperature is 100 or less.").waitFor();
    await page.getByLabel("Temperature", { exact: true }).fill("0");
    await page.getByLabel("Max tokens", { exact: true }).fill("24");
    await button(page, "Use for new chats").click();
    await page.getByText("New chats start with these settings.").first().waitFor();
    await page.keyboard.press("Escape");
    await newChat(page);
    await page.keyboard.press("Control+,");
    assert.equal(await page.getByLabel("Max tokens", { exact: true }).inputValue(), "24");
    assert.equal(await page.getByLabel("Temperature", { exact: true }).inputValue(), "0");
    await page.keyboard.press("Escape");
    await field(page).focus();
  },

  "a message is sent with Enter, and the answer streams in": async ({ page }) => {
    await page.evaluate(() => {
      const lengths = (globalThis.lengths = []);
      new MutationObserver(() => {
        const length = document.querySelector("article.answer .markdown")?.textContent?.length ?? 0;
        if (length > (lengths.at(-1) ?? 0)) lengths.push(length);
      }).observe(document.body, { childList: true, subtree: true, characterData: true });
    });
    let sent;
    page.once("request", (request) => (sent = request));
    await field(page).fill("What is");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("a rainbow?");
    await page.keyboard.press("Enter");
    await finished(page);
    const body = sent.postDataJSON();
    assert.equal(body.messages.at(-1).content, "What is\na rainbow?");
    assert.equal(body.max_tokens, 24);
    assert.equal(body.temperature, 0);
    assert.equal(body.top_p, undefined, "a default is left to the server");
    const lengths = await page.evaluate(() => globalThis.lengths);
    assert.ok(lengths.length >= 3, `the answer was seen at ${lengths.length} lengths`);
    assert.equal(await page.getByRole("heading", { level: 1 }).innerText(), "What is");
    assert.match(page.url(), /#\/c\/[0-9a-f]{32}$/);
  },

  "the answer says how fast it came, and how much context is used": async ({ page }) => {
    assert.match(await lastAnswer(page).locator(".figures").innerText(), /^[\d.]+ tokens\/s · \d+ tokens · [\d.]+ m?s to first token$/);
    assert.match((await page.getByRole("progressbar").getAttribute("aria-label")) ?? "", /^[\d,]+ of [\d,]+ tokens of context used$/);
  },

  "a finished answer is announced once, as a whole": async ({ page }) => {
    const said = await page.locator("[role=status][aria-live=polite]").innerText();
    assert.match(said, /^Answer: \S/);
    assert.equal(await page.locator(".transcript [aria-live]").count(), 0, "nothing announces each token");
  },

  "an answer that reached its limit says so": async ({ page }) => {
    await newChat(page);
    await set(page, "Max tokens", "4");
    await ask(page, "Count from one to a hundred");
    await finished(page);
    await page.getByText("The answer reached its limit of 4 tokens.").waitFor();
  },

  "Escape stops an answer, and the partial text is kept": async ({ page }) => {
    await newChat(page);
    await set(page, "Max tokens", "");
    await ask(page, LONG);
    await grown(page, 60);
    await page.keyboard.press("Escape");
    await page.getByText("You stopped this answer.").waitFor();
    const text = await answerText(page);
    assert.ok(text.length >= 40);
    await page.waitForTimeout(500);
    assert.equal(await answerText(page), text);
    await button(page, "Send").waitFor();
  },

  "regenerating keeps the earlier answer as an alternative": async ({ page }) => {
    const first = await answerText(page);
    await set(page, "Max tokens", "5");
    await button(page, "Regenerate answer").click();
    await page.locator("article.answer .alternatives", { hasText: "2/2" }).waitFor();
    await finished(page);
    assert.notEqual(await answerText(page), first);
    await button(lastAnswer(page), "Previous alternative").click();
    await page.locator("article.answer .alternatives", { hasText: "1/2" }).waitFor();
    assert.equal(await answerText(page), first);
    await button(lastAnswer(page), "Next alternative").click();
    await page.locator("article.answer .alternatives", { hasText: "2/2" }).waitFor();
  },

  "a message can be edited, from the keyboard, and is answered from there": async ({ page }) => {
    await ask(page, "Thank you, that was long");
    await finished(page);
    assert.equal(await answers(page).count(), 2);
    await field(page).focus();
    await page.keyboard.press("ArrowUp");
    const editor = page.getByLabel("Edit message").and(page.locator("textarea"));
    assert.equal(await editor.inputValue(), "Thank you, that was long");
    await page.keyboard.press("Escape");
    await editor.waitFor({ state: "detached" });
    await page.locator("article.question").first().hover();
    await button(page, "Edit message").first().click();
    await editor.fill("What is a lighthouse?");
    await page.keyboard.press("Enter");
    await page.locator("article.question .alternatives", { hasText: "2/2" }).waitFor();
    await finished(page);
    assert.equal(await answers(page).count(), 1, "what followed belongs to the other branch");
    await button(page.locator("article.question"), "Previous alternative").click();
    await page.getByText("Thank you, that was long").waitFor();
    assert.equal(await answers(page).count(), 2);
  },

  "the system prompt is sent": async ({ page }) => {
    await newChat(page);
    await page.keyboard.press("Control+,");
    const prompt = page.getByLabel("System prompt", { exact: true });
    await prompt.fill("You speak like a pirate.");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Control+,");
    await field(page).focus();
    const requested = page.waitForRequest("**/v1/chat/completions");
    await ask(page, "Hello");
    assert.deepEqual((await requested).postDataJSON().messages[0], { role: "system", content: "You speak like a pirate." });
    await finished(page);
  },

  "a streaming answer does not scroll a reader who has scrolled up": async ({ page }) => {
    await newChat(page);
    await set(page, "Max tokens", "");
    await page.setViewportSize({ width: 1280, height: 420 });
    await ask(page, LONG);
    const top = () => page.locator(".transcript").evaluate((box) => box.scrollTop);
    const room = () => page.locator(".transcript").evaluate((box) => box.scrollHeight - box.clientHeight);
    await page.waitForFunction(() => document.querySelector(".transcript").scrollTop > 120);
    assert.ok((await room()) - (await top()) < 60, "the page follows the answer");
    await page.mouse.move(600, 200);
    await page.mouse.wheel(0, -100);
    await button(page, "Go to the end of the conversation").waitFor();
    const [before, roomBefore] = [await top(), await room()];
    await page.waitForFunction((least) => {
      const box = document.querySelector(".transcript");
      return box.scrollHeight - box.clientHeight > least + 40;
    }, roomBefore);
    assert.equal(await top(), before);
    await button(page, "Go to the end of the conversation").click();
    await page.waitForFunction(() => {
      const box = document.querySelector(".transcript");
      return box.scrollHeight - box.clientHeight - box.scrollTop < 60;
    });
    await page.keyboard.press("Escape");
    await finished(page);
    await page.setViewportSize({ width: 1280, height: 800 });
  },

  "a prompt that does not fit is explained where it was asked": async ({ page, watched }) => {
    watched.expectErrors = true;
    await newChat(page);
    await ask(page, `toolong ${"many words ".repeat(9000)}`);
    await page.locator(".outcome", { hasText: "The conversation no longer fits in the model's context" }).waitFor();
    await button(page, "Try again").waitFor();
    const height = () => page.locator(".bubble").evaluate((bubble) => bubble.clientHeight);
    const folded = await height();
    await button(page, "Show all").click();
    assert.ok((await height()) > 4 * folded, "a long message is folded, and can be unfolded");
    watched.expectErrors = false;
  },

  "an unreachable server is noticed, and trying again works": async ({ page, watched }) => {
    watched.expectErrors = true;
    await newChat(page);
    await page.route("**/{api/facts,v1/chat/completions}", (route) => route.abort());
    await ask(page, "Are you there?");
    await page.locator(".outcome", { hasText: "The server cannot be reached" }).waitFor();
    await page.locator(".banner", { hasText: "The server cannot be reached" }).waitFor();
    await page.unroute("**/{api/facts,v1/chat/completions}");
    await page.locator(".banner").waitFor({ state: "detached" });
    await button(page, "Try again").click();
    await lastAnswer(page).locator(".markdown").waitFor();
    await finished(page);
    assert.equal(await page.locator(".outcome.problem").count(), 0);
    assert.equal(await page.locator(".alternatives").count(), 0, "the empty failed answer is gone");
    watched.expectErrors = false;
  },
};
