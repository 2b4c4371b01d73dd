// One browser for all checks, which records every request, every violation of the Content-Security-Policy and every
// page error while they run.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const SWITCHES = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Longer than any step takes, even on a loaded machine with a slow model. */
export const PATIENCE_MS = 120_000;

/** @typedef {{ off: string[], violations: string[], errors: string[] }} Watched */

/** Starts a browser with an empty profile. `base` is the page's address. */
export async function start(executablePath, base) {
  const profile = mkdtempSync(join(tmpdir(), "satchel-page-"));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: SWITCHES,
    viewport: { width: 1280, height: 800 },
    colorScheme: "light",
    acceptDownloads: true,
  });
  context.setDefaultTimeout(PATIENCE_MS);
  const watched = { off: [], violations: [], errors: [], expectErrors: false };
  const origin = new URL(base).origin;
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (!["data:", "blob:"].includes(url.protocol) && url.origin !== origin) watched.off.push(request.url());
  });
  await context.exposeBinding("reportViolation", (_source, text) => void watched.violations.push(text));
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => globalThis.reportViolation(`${event.violatedDirective}: ${event.blockedURI}`));
  });
  const watch = (page) => {
    page.on("pageerror", (error) => watched.errors.push(String(error)));
    page.on("console", (message) => {
      // The browser logs a refused or failed request as an error; checks that cause one set expectErrors.
      if (message.type() === "error" && !(watched.expectErrors && message.text().startsWith("Failed to load resource"))) watched.errors.push(message.text());
    });
  };
  context.pages().forEach(watch);
  context.on("page", watch);
  const stop = async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
  };
  return { context, page: context.pages()[0] ?? (await context.newPage()), watched, base, stop };
}

export const field = (page) => page.getByLabel("Message", { exact: true });
export const answers = (page) => page.locator("article.answer");
export const lastAnswer = (page) => answers(page).last();
/** The text of the last answer, without its name and figures. */
export const answerText = (page) => lastAnswer(page).locator(".markdown").last().innerText();
export const button = (page, name) => page.getByRole("button", { name, exact: true });

/** An empty chat, reached from the keyboard. */
export async function newChat(page) {
  await page.keyboard.press("Control+Shift+O");
  await page.getByRole("heading", { level: 1, name: "New chat" }).waitFor();
}

/** Types and sends a message; the answer may still be streaming. */
export async function ask(page, text) {
  const before = await answers(page).count();
  await field(page).fill(text);
  await page.keyboard.press("Enter");
  await answers(page).nth(before).waitFor();
}

/** Waits until the last answer is complete. */
export async function finished(page) {
  await page.locator("article.answer[aria-busy=true]").waitFor({ state: "detached" });
  await page.locator("article.answer[aria-busy=false]").last().waitFor();
}

/** Waits until the streaming answer has at least this many characters. */
export async function grown(page, characters) {
  await page.waitForFunction((least) => (document.querySelector("article.answer:last-of-type .markdown")?.textContent?.length ?? 0) >= least, characters);
}

/** Sets one sampling field of the open chat; an empty text means the default. */
export async function set(page, label, text) {
  await page.keyboard.press("Control+,");
  await page.getByLabel(label, { exact: true }).fill(text);
  await page.keyboard.press("Escape");
  await field(page).focus();
}
