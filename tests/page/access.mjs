// Accessibility: narrow windows, themes, keyboard-only use, reduced motion, and axe's rules.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { ask, button, field, finished, newChat } from "./browser.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];

/** Runs axe on the current page. Injected through the debugger, so the page's Content-Security-Policy stays in force. */
async function axe(page, what) {
  await page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finished.catch(() => undefined))));
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(AXE);
  const violations = await page.evaluate((tags) => globalThis.axe.run(document, { runOnly: tags }).then((result) => result.violations), RULES);
  const lines = violations.map((one) => `${one.id} (${one.impact}): ${one.help}\n    ${one.nodes.map((node) => `${node.html}\n      ${node.failureSummary}`).join("\n    ")}`);
  assert.equal(lines.length, 0, `axe on ${what}:\n  ${lines.join("\n  ")}`);
}

async function assertNoSidewaysScroll(page) {
  const [wide, room] = await page.evaluate(() => [Math.max(document.documentElement.scrollWidth, document.querySelector(".transcript").scrollWidth), document.documentElement.clientWidth]);
  assert.ok(wide <= room, `the page is ${wide} wide in a window of ${room}`);
}

export const checks = {
  "axe finds nothing: empty page, conversation, settings, help; light and dark": async ({ page }) => {
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.getByRole("link", { name: "<b>Evil</b>" }).click();
      await page.locator(".code-block .hljs-keyword").waitFor();
      await axe(page, `a conversation, ${colorScheme}`);
      await newChat(page);
      await axe(page, `an empty page, ${colorScheme}`);
      await page.keyboard.press("Control+,");
      await page.getByLabel("Top K").fill("x");
      await axe(page, `settings, ${colorScheme}`);
      await page.getByLabel("Top K").fill("");
      await page.keyboard.press("Escape");
      await page.keyboard.press("Control+/");
      await axe(page, `help, ${colorScheme}`);
      await page.keyboard.press("Escape");
    }
    await page.emulateMedia({ colorScheme: "light", reducedMotion: null });
  },

  "the theme follows the system until one is chosen, and stays chosen": async ({ page }) => {
    const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const light = await ground();
    await page.emulateMedia({ colorScheme: "dark" });
    const dark = await ground();
    assert.notEqual(light, dark);
    await button(page, "Light theme").click();
    assert.equal(await ground(), light);
    await page.reload();
    assert.equal(await ground(), light);
    await button(page, "System theme").click();
    assert.equal(await ground(), dark);
    await page.emulateMedia({ colorScheme: "light" });
  },

  "everything can be reached with the keyboard alone": async ({ page }) => {
    await newChat(page);
    await page.reload();
    await page.waitForFunction(() => document.activeElement?.id === "message");
    const names = new Set();
    for (let press = 0; press < 80; press++) {
      await page.keyboard.press("Tab");
      const name = await page.evaluate(() => {
        const element = document.activeElement;
        const outlined = element === document.body || getComputedStyle(element).outlineStyle !== "none" || element.closest(".composer-box") !== null;
        return outlined ? (element.getAttribute("aria-label") ?? element.textContent ?? element.localName).trim() : `no focus ring: ${element.outerHTML}`;
      });
      assert.ok(!name.startsWith("no focus ring"), name);
      names.add(name);
    }
    for (const wanted of ["Skip to the message field", "New chat", "Search conversations", "Settings of this chat", "Keyboard shortcuts and help", "Import and export"]) {
      assert.ok(names.has(wanted), `Tab reaches “${wanted}”; it reached ${[...names].join(", ")}`);
    }
    await button(page, "Import and export").focus();
    await page.keyboard.press("Enter");
    // Focus moves once the menu is drawn; each step waits for it, or fails.
    await page.waitForFunction(() => document.activeElement?.getAttribute("role") === "menuitem");
    await page.keyboard.press("ArrowDown");
    await page.waitForFunction(() => document.activeElement?.textContent === "Export all conversations");
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.activeElement?.getAttribute("aria-label") === "Import and export");
    await page.keyboard.press("Alt+ArrowDown");
    await page.locator("article.question").first().waitFor();
  },

  "on a narrow window nothing scrolls sideways, and panels are drawers": async ({ page }) => {
    for (const [width, height] of [[390, 844], [320, 640]]) {
      await page.setViewportSize({ width, height });
      await page.goto(new URL("#/", page.url()).href);
      await page.locator(".welcome").waitFor();
      await assertNoSidewaysScroll(page);
      await axe(page, `an empty page, ${width} wide`);
      await button(page, "Show conversations").click();
      const drawer = page.getByRole("dialog", { name: "Conversations" });
      await drawer.waitFor();
      await axe(page, `the list of conversations, ${width} wide`);
      await drawer.getByRole("link", { name: "<b>Evil</b>" }).click();
      await drawer.waitFor({ state: "detached" });
      await page.locator(".code-block").waitFor();
      await assertNoSidewaysScroll(page);
      await button(page, "Settings of this chat").click();
      await page.getByRole("dialog", { name: "Settings of this chat" }).waitFor();
      await axe(page, `settings, ${width} wide`);
      await page.keyboard.press("Escape");
      await page.getByRole("dialog").waitFor({ state: "detached" });
    }
    await button(page, "New chat").click();
    await ask(page, "Hello from a small window");
    await finished(page);
    await assertNoSidewaysScroll(page);
    await page.setViewportSize({ width: 1280, height: 800 });
    await page.getByRole("navigation", { name: "Conversations" }).waitFor();
  },

  "nothing is animated with reduced motion": async ({ page }) => {
    await page.emulateMedia({ reducedMotion: "reduce" });
    await newChat(page);
    await field(page).fill("Hello");
    await page.keyboard.press("Enter");
    await button(page, "Stop the answer").waitFor();
    assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
    await finished(page);
    await page.emulateMedia({ reducedMotion: null });
  },
};
