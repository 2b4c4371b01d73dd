// What can go wrong between the page and its server, and the message for the user: what happened, and what helps.

import type { Failure } from "../store/types";

export type FailureKind = "unreachable" | "refused" | "cut";

/** `unreachable`: no answer at all. `refused`: an error in the API's form. `cut`: the stream ended before the answer did. */
export class ApiFailure extends Error {
  constructor(
    readonly kind: FailureKind,
    message: string,
    readonly status: number | null = null,
    readonly code: string | null = null,
  ) {
    super(message);
  }
}

/** Reads an error in OpenAI's form, `{"error": {"message", "code", …}}`; for any other body the message names the status. */
export function refusal(status: number | null, body: unknown): ApiFailure {
  const error = typeof body === "object" && body !== null ? (body as { error?: unknown }).error : undefined;
  if (typeof error === "object" && error !== null) {
    const { message, code } = error as { message?: unknown; code?: unknown };
    if (typeof message === "string") return new ApiFailure("refused", message, status, typeof code === "string" ? code : null);
  }
  return new ApiFailure("refused", status === null ? "The server reported an error." : `The server answered with status ${status}.`, status);
}

/** The message for the user. */
export function explain(error: unknown): Failure {
  if (!(error instanceof ApiFailure)) {
    return { title: "Something went wrong on this page", detail: error instanceof Error ? error.message : String(error) };
  }
  if (error.kind === "unreachable") {
    return { title: "The server cannot be reached", detail: "It may have been stopped. Start it again, then try again. Your conversation is safe in this browser." };
  }
  if (error.kind === "cut") {
    return { title: "The connection ended before the answer did", detail: "The server may have been stopped. The partial answer is kept." };
  }
  if (error.code === "context_length_exceeded") {
    return {
      title: "The conversation no longer fits in the model's context",
      detail: `${sentence(error.message)} Start a new conversation, edit an earlier message to go on from there, or shorten the system prompt.`,
    };
  }
  if (error.status === 401) {
    return { title: "This server needs a key", detail: "Type one above, or open the link that the server printed when it started." };
  }
  if (error.status === 429 || error.status === 503) {
    return { title: "The server is busy", detail: `${sentence(error.message)} Wait a moment, then try again.` };
  }
  return { title: "The server could not answer", detail: sentence(error.message) };
}

function sentence(text: string): string {
  const trimmed = text.trim();
  const first = trimmed.charAt(0).toLocaleUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
