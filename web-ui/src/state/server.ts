// The server's facts, and whether it can be reached. While it cannot, the page asks again every few seconds, so that
// the notice disappears by itself.

import { signal } from "@preact/signals";
import { keepAccess } from "../api/access";
import { type Facts, fetchFacts } from "../api/facts";
import { ApiFailure, explain } from "../api/failures";
import type { Failure } from "../store/types";

export const facts = signal<Facts | null>(null);
/** null while the server answers. */
export const serverProblem = signal<Failure | null>(null);

/** The server refuses this page's requests until the user gives a key. */
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
      serverProblem.value = null; // Asking again does not help: the user has to give a key.
      return;
    }
    serverProblem.value = explain(error);
    timer = setTimeout(() => void checkServer(), ASK_AGAIN_MS);
  }
}

/** Keeps the key that the user typed, and checks whether the server accepts it. */
export async function useKey(key: string): Promise<void> {
  keepAccess(key.trim());
  await checkServer();
}

/** Called when a request failed: checks whether the server can still be reached. */
export function noteFailure(error: unknown): void {
  if (error instanceof ApiFailure && (error.kind !== "refused" || error.status === 401)) void checkServer();
}
