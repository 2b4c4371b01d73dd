// Answers while they are written: one at a time per conversation, any number of conversations.
//
// The one idea to know: arriving text goes to a signal, from which the message's view is updated (at most every 50 ms),
// and less often to the database, so that the partial answer survives a reload.

import { type Signal, computed, signal } from "@preact/signals";
import { type ChatMessage, promptOf, streamAnswer } from "../api/chat";
import { explain } from "../api/failures";
import type { MessageChange } from "../store/database";
import { newId } from "../store/identity";
import { pathTo } from "../store/tree";
import type { Conversation, Message, Timings } from "../store/types";
import { plainText } from "../markdown/plain";
import * as conversations from "./conversations";
import { announce } from "./notices";
import { facts, noteFailure } from "./server";

/** The view's state of an answer that is being written. */
export interface Live {
  content: string;
  reasoning: string;
  /** Pieces of text so far: about one per token, which is accurate enough for the rate shown meanwhile. */
  tokens: number;
  startedAt: number;
  firstTokenAt: number | null;
}

interface Writing {
  conversationId: string;
  live: Signal<Live>;
  abort: AbortController;
}

const SHOW_EVERY_MS = 50;
const KEEP_EVERY_MS = 250;
const ANNOUNCED_CHARACTERS = 3000;

export const writing = signal<ReadonlyMap<string, Writing>>(new Map());
/** The conversations in which this tab writes an answer. */
export const busyConversations = computed(() => new Set([...writing.value.values()].map((one) => one.conversationId)));
/** Whether the open conversation's answer is being written by this tab. */
export const answering = computed(() => conversations.current.value !== null && busyConversations.value.has(conversations.current.value.id));

/** Adds the user's message and answers it; creates a conversation if none is open. */
export async function send(text: string): Promise<void> {
  const open = conversations.current.value;
  const conversation = open ?? (await conversations.createConversation(conversations.titleFrom(text)));
  const parentId = open ? (conversations.path.value.at(-1)?.id ?? null) : null;
  await askFrom(conversation.id, parentId, text, !open);
}

/** Asks again with another text; the old one stays as an alternative. */
export async function edit(message: Message, text: string): Promise<void> {
  await askFrom(message.conversationId, message.parentId, text, false);
}

async function askFrom(conversationId: string, parentId: string | null, text: string, open: boolean): Promise<void> {
  const message = newMessage(conversationId, parentId, "user", text);
  await conversations.database().addMessage(message);
  if (open) {
    await conversations.openConversation(conversationId);
    history.pushState(null, "", `#/c/${conversationId}`);
  }
  await answer(conversationId, message.id);
}

/** Answers the same question again. An answer that failed before its first token is replaced, others stay as alternatives. */
export async function regenerate(message: Message): Promise<void> {
  if (message.role !== "assistant" || message.parentId === null) return;
  if (message.content === "" && message.reasoning === "") await conversations.database().removeLeaf(message.id);
  await answer(message.conversationId, message.parentId);
}

/** Answers a question that has no answer (its tab was closed before one began). */
export async function answer(conversationId: string, questionId: string): Promise<void> {
  if (busyConversations.value.has(conversationId)) return;
  const database = conversations.database();
  const conversation = await database.conversation(conversationId);
  if (!conversation || busyConversations.value.has(conversationId)) return;
  const message: Message = { ...newMessage(conversationId, questionId, "assistant", ""), status: "streaming", model: facts.value?.name ?? null };
  const live = signal<Live>({ content: "", reasoning: "", tokens: 0, startedAt: performance.now(), firstTokenAt: null });
  const one: Writing = { conversationId, live, abort: new AbortController() };
  writing.value = new Map(writing.value).set(message.id, one);
  try {
    await database.addMessage(message);
    await show(conversationId);
    const prompt = promptOf(promptedBy(conversation), pathTo(await database.messages(conversationId), questionId));
    const change = await write(message.id, one, conversation, prompt);
    await keep(message.id, change);
    conversations.changed(conversationId);
    if (conversations.current.value?.id === conversationId) await conversations.refreshCurrent();
    announceEnd(change);
  } finally {
    const rest = new Map(writing.value);
    rest.delete(message.id);
    writing.value = rest;
  }
}

/** Runs the request until it completes, fails or is stopped; returns the final change to store. */
async function write(messageId: string, one: Writing, conversation: Conversation, prompt: ChatMessage[]): Promise<MessageChange> {
  let { content, reasoning, tokens, startedAt, firstTokenAt } = one.live.value;
  let finishReason: string | null = null;
  let timings: Timings | null = null;
  let shownAt = 0;
  let keptAt = performance.now();
  let pending: ReturnType<typeof setTimeout> | undefined;
  let keeping = false;
  const showNow = (): void => {
    clearTimeout(pending);
    pending = undefined;
    shownAt = performance.now();
    one.live.value = { content, reasoning, tokens, startedAt, firstTokenAt };
  };
  const result = (change: MessageChange): MessageChange => {
    showNow();
    return { content, reasoning, finishReason, timings, ...change };
  };
  try {
    for await (const step of streamAnswer(facts.value?.name ?? "default", prompt, conversation.sampling, one.abort.signal)) {
      if (step.type === "end") finishReason = step.reason;
      else if (step.type === "timings") timings = step.timings;
      else {
        content += step.content;
        reasoning += step.reasoning;
        tokens++;
        const now = performance.now();
        firstTokenAt ??= now;
        if (now - shownAt >= SHOW_EVERY_MS) showNow();
        else pending ??= setTimeout(showNow, SHOW_EVERY_MS);
        if (now - keptAt >= KEEP_EVERY_MS && !keeping) {
          keptAt = now;
          keeping = true;
          void keepOrStop(messageId, one, { content, reasoning }).finally(() => (keeping = false));
        }
      }
    }
    return result({ status: "done" });
  } catch (error) {
    if (one.abort.signal.aborted) return result({ status: "stopped" });
    noteFailure(error);
    return result({ status: "failed", failure: explain(error) });
  }
}

/** Stores the partial answer; aborts the request if the conversation was deleted, here or in another tab. */
async function keepOrStop(messageId: string, one: Writing, change: MessageChange): Promise<void> {
  const kept = await keep(messageId, change);
  if (kept && (await conversations.database().conversation(one.conversationId))) conversations.tellTabs(one.conversationId);
  else one.abort.abort();
}

/** Stops the answer of the open conversation. */
export function stop(): void {
  const id = conversations.current.value?.id;
  for (const one of writing.value.values()) if (one.conversationId === id) one.abort.abort();
}

/** Called when the page is unloaded: stores the text since the last write, if the browser still completes the transaction. */
export function keepBeforeLeaving(): void {
  for (const [id, { live }] of writing.value) {
    const { content, reasoning } = live.peek();
    void keep(id, { content, reasoning, status: "interrupted" });
  }
}

async function keep(messageId: string, change: MessageChange): Promise<boolean> {
  return conversations.database().changeMessage(messageId, change);
}

async function show(conversationId: string): Promise<void> {
  conversations.changed(conversationId);
  if (conversations.current.value?.id === conversationId) await conversations.refreshCurrent();
}

/** The system prompt to send: the conversation's own (empty on purpose counts), or the server's default. */
function promptedBy(conversation: Conversation): string | null {
  const text = conversation.systemPrompt ?? facts.value?.defaults.system_prompt ?? null;
  return conversation.systemPrompt === null && text === "" ? null : text;
}

function announceEnd(change: MessageChange): void {
  if (change.status === "failed") announce(`${change.failure?.title ?? "The answer failed"}. ${change.failure?.detail ?? ""}`);
  else {
    const text = plainText(change.content ?? "").slice(0, ANNOUNCED_CHARACTERS);
    announce(change.status === "stopped" ? `Answer stopped. ${text}` : `Answer: ${text}`);
  }
}

function newMessage(conversationId: string, parentId: string | null, role: Message["role"], content: string): Message {
  return {
    id: newId(),
    conversationId,
    parentId,
    role,
    content,
    reasoning: "",
    createdAt: Date.now(),
    status: "done",
    finishReason: null,
    failure: null,
    timings: null,
    model: null,
  };
}

