// What the server says of itself, and whether it is there. While it is gone the page asks again every few seconds,
// so that the notice goes away by itself.

import { signal } from "@preact/signals";
import { keepAccess } from "../api/access";
import { type Facts, fetchFacts } from "../api/facts";
import { ApiFailure, explain } from "../api/failures";
import type { Failure } from "../store/types";

export const facts = signal<Facts | null>(null);
/** null while the server answers. */
export const serverProblem = signal<Failure | null>(null);

/** The server takes no request of this page without a key. */
export const needsKey = signal(false);

const ASK_AGAIN_MS = 3000;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Asks the server for its facts; keeps asking while it does not answer. */
export async function checkServer(): Promise<void> {
  clearTimeout(timer);
  try {
    facts.value = await fetchFacts();
    serverProblem.value = null;
    needsKey.value = false;
  } catch (error) {
    needsKey.value = error instanceof ApiFailure && error.status === 401;
    if (needsKey.value) {
      serverProblem.value = null; // asking again does not help, the person must
      return;
    }
    serverProblem.value = explain(error);
    timer = setTimeout(() => void checkServer(), ASK_AGAIN_MS);
  }
}

/** Takes a key that was typed, and looks whether the server knows it. */
export async function useKey(key: string): Promise<void> {
  keepAccess(key.trim());
  await checkServer();
}

/** Called when a request failed: finds out whether the server is gone. */
export function noteFailure(error: unknown): void {
  if (error instanceof ApiFailure && (error.kind !== "refused" || error.status === 401)) void checkServer();
}
