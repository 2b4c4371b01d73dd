// Drives the chat page in a real browser, against a running server or one that it starts and stops:
//
//   node tests/page/main.mjs http://127.0.0.1:8080/ /usr/bin/chromium [WORDS OF A CHECK]
//   node tests/page/main.mjs ./packed-model /usr/bin/chromium [WORDS OF A CHECK]
//
// The checks run in order in one browser profile, like a single user's session. Each prints a line; the first failure
// ends the run. At the end, no request may have gone to another origin, and no policy violation may have occurred.

import assert from "node:assert/strict";
import { checks as access } from "./access.mjs";
import { start } from "./browser.mjs";
import { checks as conversation } from "./conversation.mjs";
import { checks as keeping } from "./keeping.mjs";
import { checkKeys } from "./keys.mjs";
import { startServer } from "./server.mjs";

const [target, chromium, only = ""] = process.argv.slice(2);
if (!target || !chromium) {
  console.error("usage: node main.mjs ADDRESS|PROGRAM CHROMIUM [WORDS OF A CHECK]");
  process.exit(2);
}

const server = target.startsWith("http:") ? null : await startServer(target);
const base = server?.address ?? target;
const session = await start(chromium, base);
const { page, watched } = session;
let failed = false;
let name = "opening the page";
try {
  await page.goto(base);
  for (const [title, check] of Object.entries({ ...conversation, ...keeping, ...access })) {
    if (!title.includes(only)) continue;
    name = title;
    const begin = performance.now();
    await check(session);
    console.log(`ok    ${name} (${((performance.now() - begin) / 1000).toFixed(1)} s)`);
  }
  name = "nothing left the origin, the policy was kept, and the page had no error";
  assert.deepEqual({ off: watched.off, violations: watched.violations, errors: watched.errors }, { off: [], violations: [], errors: [] });
  console.log(`ok    ${name}`);
  if (server) {
    name = "the server stops cleanly while a page is open";
    assert.equal(await server.stop(), 0);
    console.log(`ok    ${name}`);
    name = "a server with keys asks for one, and accepts the page opened with its link";
    await checkKeys(target, chromium);
    console.log(`ok    ${name}`);
  }
} catch (error) {
  failed = true;
  console.log(`FAIL  ${name}\n${error instanceof Error ? error.stack : error}`);
  console.log(`page: ${page.url()}\nwatched: ${JSON.stringify(watched)}`);
  const seen = await page.locator("body").ariaSnapshot().catch(() => "(the page does not answer)");
  console.log(seen.replace(/^(.{200}).*$/gm, "$1…"));
} finally {
  await session.stop();
  await server?.stop();
}
process.exit(failed ? 1 : 0);
