// A server that requires a key: the page asks for one, or is authenticated by the link that the server printed.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { start } from "./browser.mjs";
import { startServer } from "./server.mjs";

/** Starts `program` with a key, and opens its page with and without the printed link. */
export async function checkKeys(program, chromium) {
  const folder = mkdtempSync(join(tmpdir(), "satchel-keys-"));
  const file = join(folder, "keys");
  writeFileSync(file, "a-key\n");
  const server = await startServer(program, ["--api-key-file", file, "--system-prompt", "Secret words."]);
  const plain = server.address.split("#")[0];
  const session = await start(chromium, plain);
  session.watched.expectErrors = true;
  try {
    await stranger(session, plain);
    await owner(session, server.address, plain);
    assert.deepEqual([session.watched.off, session.watched.violations, session.watched.errors], [[], [], []]);
  } finally {
    await session.stop();
    await server.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function stranger({ page }, plain) {
  await page.goto(plain);
  const key = page.getByLabel("This server needs a key.");
  await key.fill("guessed");
  await page.getByRole("button", { name: "Use this key" }).click();
  await page.getByText("The server does not know this key.").waitFor();
  await page.getByLabel("The server does not know this key.").fill(" a-key ");
  await page.getByRole("button", { name: "Use this key" }).click();
  await page.locator(".welcome-facts", { hasText: "tokens of context" }).waitFor();
  await page.reload();
  await page.locator(".welcome-facts", { hasText: "tokens of context" }).waitFor();
}

async function owner({ page }, link, plain) {
  await page.evaluate(() => localStorage.clear());
  await page.goto("about:blank");
  await page.goto(link);
  await page.locator(".welcome-facts", { hasText: "tokens of context" }).waitFor();
  assert.ok(!page.url().includes("launch"), "the address keeps no secret");
  assert.equal(page.url().split("#")[0], plain);
  await page.keyboard.press("Control+,");
  assert.equal(await page.getByLabel("System prompt", { exact: true }).inputValue(), "Secret words.");
}
