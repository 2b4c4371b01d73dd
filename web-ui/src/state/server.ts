// What the server says of itself, and whether it is there. While it is gone the page asks again every few seconds,
// so that the notice goes away by itself.

import { signal } from "@preact/signals";
import { type Facts, fetchFacts } from "../api/facts";
import { ApiFailure, explain } from "../api/failures";
import type { Failure } from "../store/types";

export const facts = signal<Facts | null>(null);
/** null while the server answers. */
export const serverProblem = signal<Failure | null>(null);

const ASK_AGAIN_MS = 3000;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Asks the server for its facts; keeps asking while it does not answer. */
export async function checkServer(): Promise<void> {
  clearTimeout(timer);
  try {
    facts.value = await fetchFacts();
    serverProblem.value = null;
  } catch (error) {
    serverProblem.value = explain(error);
    timer = setTimeout(() => void checkServer(), ASK_AGAIN_MS);
  }
}

/** Called when a request failed: finds out whether the server is gone. */
export function noteFailure(error: unknown): void {
  if (error instanceof ApiFailure && error.kind !== "refused") void checkServer();
}
