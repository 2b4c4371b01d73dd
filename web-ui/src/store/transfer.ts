// Conversations as files: JSON that can be read back, and Markdown for people.
//
// An imported file is untrusted: every field is checked, new ids are assigned (so that importing a file twice gives two
// conversations), and an invalid file is refused as a whole, with the place of the error.

import { newId } from "./identity";
import { pathTo } from "./tree";
import type { Conversation, Failure, Message, MessageStatus, Role, Sampling, Timings } from "./types";

export const FORMAT = "satchel-conversations";
export const FORMAT_VERSION = 1;
/** More than anyone writes; keeps a malformed file from filling the browser's storage. */
export const IMPORT_LIMIT_BYTES = 64 * 1024 * 1024;

export interface Entry {
  conversation: Conversation;
  messages: Message[];
}

/** Why a file cannot be imported. */
export class ImportError extends Error {}

/** Conversations as JSON; the same content gives the same text. */
export function toJson(entries: Entry[], exportedAt: Date): string {
  const conversations = entries.map(({ conversation, messages }) => ({
    title: conversation.title,
    created_at: new Date(conversation.createdAt).toISOString(),
    updated_at: new Date(conversation.updatedAt).toISOString(),
    system_prompt: conversation.systemPrompt,
    sampling: conversation.sampling,
    head: conversation.headId,
    messages: [...messages]
      .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1))
      .map((message) => ({
        id: message.id,
        parent: message.parentId,
        role: message.role,
        content: message.content,
        reasoning: message.reasoning,
        created_at: new Date(message.createdAt).toISOString(),
        status: message.status === "streaming" ? "interrupted" : message.status,
        finish_reason: message.finishReason,
        failure: message.failure,
        timings: message.timings,
        model: message.model,
      })),
  }));
  const document = { format: FORMAT, version: FORMAT_VERSION, exported_at: exportedAt.toISOString(), conversations };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** A conversation's branch that is shown, as Markdown. */
export function toMarkdown({ conversation, messages }: Entry): string {
  const path = pathTo(new Map(messages.map((message) => [message.id, message])), conversation.headId);
  const parts = [`# ${conversation.title.replace(/\s+/g, " ")}`];
  if (conversation.systemPrompt) parts.push(`> **System prompt:** ${conversation.systemPrompt.replace(/\n/g, "\n> ")}`);
  for (const message of path) {
    parts.push(message.role === "user" ? "## You" : `## ${message.model ?? "Answer"}`);
    if (message.content.trim() !== "") parts.push(message.content.trim());
    if (message.failure) parts.push(`*${message.failure.title}*`);
  }
  return `${parts.join("\n\n")}\n`;
}

/** A file name made from a title: letters and digits of any script, joined by dashes. */
export function fileName(title: string, extension: string): string {
  const stem = title.normalize("NFC").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 60).toLocaleLowerCase();
  return `${stem || "conversation"}.${extension}`;
}

/** Parses the output of `toJson`. Throws ImportError with the place of the error. */
export function fromJson(text: string): Entry[] {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    throw new ImportError("the file is not JSON");
  }
  const root = object(document, "the file");
  if (root.format !== FORMAT) throw new ImportError(`the file is not an export of Satchel: "format" is not "${FORMAT}"`);
  if (root.version !== FORMAT_VERSION) throw new ImportError(`the file has version ${String(root.version)}; this page reads version ${FORMAT_VERSION}`);
  const entries = array(root.conversations, "conversations").map((one, index) => readConversation(one, `conversations[${index}]`));
  if (entries.length === 0) throw new ImportError("the file holds no conversation");
  return entries;
}

function readConversation(value: unknown, at: string): Entry {
  const source = object(value, at);
  const id = newId();
  const ids = new Map<string, string>();
  const sources = array(source.messages, `${at}.messages`).map((one, index) => {
    const place = `${at}.messages[${index}]`;
    const message = object(one, place);
    const name = string(message.id, `${place}.id`);
    if (ids.has(name)) throw new ImportError(`${place}.id is used twice`);
    ids.set(name, newId());
    return { message, place };
  });
  const reference = (given: unknown, place: string): string | null => {
    if (given === null || given === undefined) return null;
    const target = ids.get(string(given, place));
    if (target === undefined) throw new ImportError(`${place} names a message that is not in the file`);
    return target;
  };
  const messages = sources.map(({ message, place }): Message => ({
    id: ids.get(message.id as string) as string,
    conversationId: id,
    parentId: reference(message.parent, `${place}.parent`),
    role: oneOf<Role>(message.role, ["user", "assistant"], `${place}.role`),
    content: string(message.content, `${place}.content`),
    reasoning: message.reasoning === undefined ? "" : string(message.reasoning, `${place}.reasoning`),
    createdAt: time(message.created_at, `${place}.created_at`),
    status: oneOf<MessageStatus>(message.status ?? "done", ["done", "stopped", "interrupted", "failed"], `${place}.status`),
    finishReason: optional(message.finish_reason, string, `${place}.finish_reason`),
    failure: optional(message.failure, failure, `${place}.failure`),
    timings: optional(message.timings, timings, `${place}.timings`),
    model: optional(message.model, string, `${place}.model`),
  }));
  refuseCycles(messages, at);
  const conversation: Conversation = {
    id,
    title: string(source.title, `${at}.title`).slice(0, 200),
    createdAt: time(source.created_at, `${at}.created_at`),
    updatedAt: time(source.updated_at, `${at}.updated_at`),
    systemPrompt: optional(source.system_prompt, string, `${at}.system_prompt`),
    sampling: sampling(source.sampling ?? {}, `${at}.sampling`),
    headId: reference(source.head, `${at}.head`),
    deletedAt: null,
  };
  return { conversation, messages };
}

function refuseCycles(messages: Message[], at: string): void {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const sound = new Set<string>();
  for (const start of messages) {
    const walk = new Set<string>();
    let next: string | null = start.id;
    while (next !== null && !sound.has(next)) {
      if (walk.has(next)) throw new ImportError(`${at}.messages: a message follows itself`);
      walk.add(next);
      next = byId.get(next)?.parentId ?? null;
    }
    for (const id of walk) sound.add(id);
  }
}

type Fields = Record<string, unknown>;

function object(value: unknown, at: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new ImportError(`${at} is not an object`);
  return value as Fields;
}

function array(value: unknown, at: string): unknown[] {
  if (!Array.isArray(value)) throw new ImportError(`${at} is not a list`);
  return value;
}

function string(value: unknown, at: string): string {
  if (typeof value !== "string") throw new ImportError(`${at} is not a text`);
  return value;
}

function number(value: unknown, at: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw new ImportError(`${at} is not a number`);
  return value;
}

function time(value: unknown, at: string): number {
  const milliseconds = Date.parse(string(value, at));
  if (Number.isNaN(milliseconds)) throw new ImportError(`${at} is not a time`);
  return milliseconds;
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], at: string): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new ImportError(`${at} is not one of ${allowed.join(", ")}`);
  return found;
}

function optional<T>(value: unknown, read: (value: unknown, at: string) => T, at: string): T | null {
  return value === null || value === undefined ? null : read(value, at);
}

function failure(value: unknown, at: string): Failure {
  const source = object(value, at);
  return { title: string(source.title, `${at}.title`), detail: string(source.detail, `${at}.detail`) };
}

function timings(value: unknown, at: string): Timings {
  const source = object(value, at);
  const field = (name: keyof Timings): number => number(source[name], `${at}.${name}`);
  return {
    prompt_tokens: field("prompt_tokens"),
    cached_tokens: field("cached_tokens"),
    prompt_ms: field("prompt_ms"),
    prompt_per_second: field("prompt_per_second"),
    generated_tokens: field("generated_tokens"),
    generated_ms: field("generated_ms"),
    generated_per_second: field("generated_per_second"),
    context_used: field("context_used"),
    context_length: field("context_length"),
  };
}

const SAMPLING_KEYS: readonly (keyof Sampling)[] = ["temperature", "top_p", "top_k", "min_p", "repeat_penalty", "max_tokens", "seed"];

function sampling(value: unknown, at: string): Sampling {
  const source = object(value, at);
  const result: Sampling = {};
  for (const key of SAMPLING_KEYS) {
    if (source[key] !== undefined && source[key] !== null) result[key] = number(source[key], `${at}.${key}`);
  }
  return result;
}
