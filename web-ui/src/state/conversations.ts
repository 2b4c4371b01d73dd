// The conversations as the page shows them: the list, the open one with its messages, and the actions on them.
// Every change goes to the database first and is then read back; other tabs are told, and read it too.

import { computed, signal } from "@preact/signals";
import { type ConversationChange, Database } from "../store/database";
import { newId } from "../store/identity";
import { Tabs } from "../store/tabs";
import { type Entry, IMPORT_LIMIT_BYTES, ImportError, fileName, fromJson, toJson, toMarkdown } from "../store/transfer";
import { alternatives, newestLeaf, pathTo, usableHead } from "../store/tree";
import type { Conversation, Message, Sampling } from "../store/types";
import { announce, notify } from "./notices";
import { ownSampling } from "./preferences";

/** Deleted conversations stay this long, for the undo and for tabs that still show them. */
const UNDO_MS = 60_000;

export const list = signal<readonly Conversation[]>([]);
export const current = signal<Conversation | null>(null);
export const messages = signal<ReadonlyMap<string, Message>>(new Map());
/** Settings of a conversation that is not stored yet because it has no message. */
export const draft = signal<{ systemPrompt: string | null; sampling: Sampling }>({ systemPrompt: null, sampling: ownSampling.value });
/** Why the browser cannot store conversations; null if it can. */
export const storageProblem = signal<string | null>(null);
export const ready = signal(false);

/** The messages of the branch that is shown, oldest first. */
export const path = computed(() => pathTo(messages.value, current.value ? usableHead(messages.value, current.value.headId) : null));
export const systemPrompt = computed(() => (current.value ?? draft.value).systemPrompt);
export const sampling = computed(() => (current.value ?? draft.value).sampling);

let opened: Database | null = null;
let tabs: Tabs | null = null;
let opening = 0;

/** Opens the database and starts to listen to other tabs. `writes` tells whether this tab is writing a message. */
export async function startConversations(writes: (messageId: string) => boolean): Promise<void> {
  tabs = new Tabs(writes);
  tabs.listen((event) => {
    if (event.type === "list") void refreshList();
    if (event.type === "conversation" && event.id === current.value?.id) void refreshCurrent();
  });
  try {
    opened = await Database.open(() => {
      storageProblem.value = "Another tab uses a newer version of this page. Reload this tab to continue.";
    });
    await opened.purge(Date.now() - UNDO_MS);
    await refreshList();
  } catch (error) {
    storageProblem.value = `This browser does not let the page keep conversations (${error instanceof Error ? error.message : String(error)}).`;
  }
  ready.value = true;
}

export function database(): Database {
  if (!opened) throw new Error(storageProblem.value ?? "conversations are not loaded yet");
  return opened;
}

/** Shows a conversation, or with null an empty page for a new one; false when there is no such conversation. */
export async function openConversation(id: string | null): Promise<boolean> {
  const turn = ++opening;
  if (id === null) {
    current.value = null;
    messages.value = new Map();
    return true;
  }
  const conversation = await database().conversation(id);
  if (!conversation) return false;
  const found = await database().messages(id);
  if (turn !== opening) return true;
  messages.value = found;
  current.value = conversation;
  void settleInterrupted(found);
  return true;
}

/** Marks as interrupted the messages with status `streaming` that no open tab is writing: their tab was closed or reloaded. */
async function settleInterrupted(found: ReadonlyMap<string, Message>): Promise<void> {
  for (const message of found.values()) {
    if (message.status !== "streaming" || (await tabs?.isBeingWritten(message.id))) continue;
    await database().changeMessage(message.id, { status: "interrupted" });
    changed(message.conversationId);
  }
}

export async function refreshList(): Promise<void> {
  list.value = await database().conversations();
}

export async function refreshCurrent(): Promise<void> {
  const id = current.value?.id;
  if (id === undefined) return;
  const turn = opening;
  const [conversation, found] = await Promise.all([database().conversation(id), database().messages(id)]);
  if (turn !== opening || current.value?.id !== id) return;
  if (!conversation) {
    location.hash = "#/";
    return;
  }
  messages.value = found;
  current.value = conversation;
}

/** Reads a change back, here and in other tabs. */
export function changed(id: string): void {
  tabs?.post({ type: "conversation", id });
  tabs?.post({ type: "list" });
  void refreshList();
  if (current.value?.id === id) void refreshCurrent();
}

/** Tells other tabs that text was added; this tab shows it already. */
export function tellTabs(id: string): void {
  tabs?.post({ type: "conversation", id });
}

/** Creates a conversation with the draft's settings. */
export async function createConversation(title: string): Promise<Conversation> {
  const now = Date.now();
  const conversation: Conversation = {
    id: newId(),
    title,
    createdAt: now,
    updatedAt: now,
    systemPrompt: draft.value.systemPrompt,
    sampling: draft.value.sampling,
    headId: null,
    deletedAt: null,
  };
  await database().addConversations([{ conversation, messages: [] }]);
  resetDraft();
  return conversation;
}

export function resetDraft(): void {
  draft.value = { systemPrompt: null, sampling: ownSampling.value };
}

/** Changes settings of the open conversation, or of the draft. */
export async function changeSettings(change: Partial<Pick<Conversation, "systemPrompt" | "sampling">>): Promise<void> {
  const open = current.value;
  if (!open) {
    draft.value = { ...draft.value, ...change };
    return;
  }
  current.value = { ...open, ...change };
  await applyChange(open.id, change);
}

export async function rename(id: string, title: string): Promise<void> {
  const clean = title.replace(/\s+/g, " ").trim().slice(0, 200);
  if (clean !== "") await applyChange(id, { title: clean });
}

async function applyChange(id: string, change: ConversationChange): Promise<void> {
  await database().changeConversation(id, change);
  changed(id);
}

/** Deletes a conversation and offers to undo that. */
export async function remove(id: string): Promise<void> {
  const title = list.value.find((one) => one.id === id)?.title ?? "Conversation";
  await applyChange(id, { deletedAt: Date.now() });
  if (current.value?.id === id) location.hash = "#/";
  notify(`Deleted “${shorten(title, 40)}”.`, {
    label: "Undo",
    run: () => {
      void applyChange(id, { deletedAt: null }).then(() => {
        location.hash = `#/c/${id}`;
        announce("Conversation restored.");
      });
    },
  });
}

/** Shows the previous (-1) or next (1) alternative to a message. */
export async function showAlternative(message: Message, offset: number): Promise<void> {
  const all = alternatives(messages.value, message);
  const target = all[all.findIndex((one) => one.id === message.id) + offset];
  if (target) await applyChange(message.conversationId, { headId: newestLeaf(messages.value, target.id) });
}

/** The ids of the conversations whose title or messages contain `text`. */
export async function search(text: string): Promise<Set<string>> {
  const found = await database().conversationsWith(text);
  const wanted = text.toLocaleLowerCase();
  for (const one of list.value) if (one.title.toLocaleLowerCase().includes(wanted)) found.add(one.id);
  return found;
}

/** Saves a conversation as a file. */
export async function exportConversation(id: string, form: "json" | "markdown"): Promise<void> {
  const entry = await entryOf(id);
  if (!entry) return;
  if (form === "json") download(fileName(entry.conversation.title, "json"), "application/json", toJson([entry], new Date()));
  else download(fileName(entry.conversation.title, "md"), "text/markdown", toMarkdown(entry));
}

/** Saves every conversation in one file. */
export async function exportAll(): Promise<void> {
  const entries = (await Promise.all(list.value.map((one) => entryOf(one.id)))).filter((entry) => entry !== null);
  if (entries.length > 0) download("satchel-conversations.json", "application/json", toJson(entries, new Date()));
}

async function entryOf(id: string): Promise<Entry | null> {
  const conversation = await database().conversation(id);
  return conversation && { conversation, messages: [...(await database().messages(id)).values()] };
}

function download(name: string, type: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Reads conversations from a file and opens the first. */
export async function importFile(file: File): Promise<void> {
  try {
    if (file.size > IMPORT_LIMIT_BYTES) throw new ImportError("the file is larger than 64 MB");
    const entries = fromJson(await file.text());
    await database().addConversations(entries);
    await refreshList();
    const first = entries[0];
    if (!first) return;
    changed(first.conversation.id);
    location.hash = `#/c/${first.conversation.id}`;
    notify(entries.length === 1 ? `Imported “${shorten(first.conversation.title, 40)}”.` : `Imported ${entries.length} conversations.`);
  } catch (error) {
    notify(`${file.name} was not imported: ${error instanceof Error ? error.message : String(error)}.`, null, "problem");
  }
}

/** A title from the first message: its first line that is not empty once Markdown's marks are removed, cut between words. */
export function titleFrom(text: string): string {
  const line = text.split("\n").map((one) => one.replace(/^[\s#>*`~-]+/, "").replace(/\s+/g, " ").trim()).find((one) => one !== "");
  return shorten(line ?? "New conversation", 60);
}

export function shorten(text: string, length: number): string {
  if (text.length <= length) return text;
  const cut = text.slice(0, length);
  const space = cut.lastIndexOf(" ");
  return `${(space > length / 2 ? cut.slice(0, space) : cut).replace(/[\s,;:.]+$/, "")}…`;
}
