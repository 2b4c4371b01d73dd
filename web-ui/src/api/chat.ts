// POST /v1/chat/completions, streamed: builds the request from a branch of messages, and reads the answer as steps.

import type { Message, Sampling, Timings } from "../store/types";
import { withAccess } from "./access";
import { EventStreamParser } from "./event-stream";
import { endpoint } from "./facts";
import { ApiFailure, refusal } from "./failures";

export interface ChatMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

export type Step =
  | { type: "text"; content: string; reasoning: string }
  | { type: "end"; reason: string }
  | { type: "timings"; timings: Timings };

/**
 * The request's messages. An empty answer (stopped or failed before its first token) is left out, and the messages around
 * it are joined: many chat templates refuse two messages of the same role in a row.
 */
export function promptOf(systemPrompt: string | null, path: readonly Message[]): ChatMessage[] {
  const messages: ChatMessage[] = systemPrompt === null ? [] : [{ role: "system", content: systemPrompt }];
  for (const { role, content } of path) {
    const last = messages.at(-1);
    if (role === "assistant" && content.trim() === "") continue;
    if (last?.role === role) last.content += `\n\n${content}`;
    else messages.push({ role, content });
  }
  return messages;
}

/** Sends the request and yields the answer as it arrives. Throws ApiFailure, or AbortError when `signal` fires. */
export async function* streamAnswer(model: string, messages: ChatMessage[], sampling: Sampling, signal: AbortSignal): AsyncGenerator<Step> {
  const body = JSON.stringify({ model, messages, ...sampling, stream: true, stream_options: { include_usage: true } });
  let response: Response;
  try {
    response = await fetch(endpoint("v1/chat/completions"), { method: "POST", headers: withAccess({ "content-type": "application/json" }), body, signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiFailure("unreachable", "no answer from the server");
  }
  if (!response.ok || !response.body) throw refusal(response.status, await response.json().catch(() => null));

  const reader = response.body.getReader();
  const parser = new EventStreamParser();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      for (const data of parser.push(value)) {
        if (data === "[DONE]") return;
        for (const step of readChunk(data)) {
          if (step.type === "end") ended = true;
          yield step;
        }
      }
    }
  } catch (error) {
    if (signal.aborted || error instanceof ApiFailure) throw error;
    throw new ApiFailure("cut", "the connection broke");
  } finally {
    // Leaving early (a break, an error) closes the connection, which stops the generation on the server.
    void reader.cancel().catch(() => undefined);
  }
  if (!ended) throw new ApiFailure("cut", "the stream ended early");
}

/** The steps in one chunk. Throws when the chunk carries an error. */
export function readChunk(data: string): Step[] {
  let chunk: Record<string, unknown>;
  try {
    chunk = JSON.parse(data) as Record<string, unknown>;
  } catch {
    throw new ApiFailure("refused", "The server sent something that is not JSON.");
  }
  if (chunk.error) throw refusal(null, chunk);
  const steps: Step[] = [];
  const choice = (chunk.choices as { delta?: Record<string, unknown>; finish_reason?: unknown }[] | undefined)?.[0];
  const content = choice?.delta?.content;
  const reasoning = choice?.delta?.reasoning_content;
  if ((typeof content === "string" && content) || (typeof reasoning === "string" && reasoning)) {
    steps.push({ type: "text", content: typeof content === "string" ? content : "", reasoning: typeof reasoning === "string" ? reasoning : "" });
  }
  if (typeof choice?.finish_reason === "string") steps.push({ type: "end", reason: choice.finish_reason });
  const timings = chunk.timings as Timings | undefined;
  if (timings && typeof timings.generated_tokens === "number") steps.push({ type: "timings", timings });
  return steps;
}
