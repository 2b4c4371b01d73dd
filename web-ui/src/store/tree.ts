// Walking the tree of messages: paths, alternatives, leaves. Pure functions over a map from id to message.

import type { Message } from "./types";

export type MessageMap = ReadonlyMap<string, Message>;

/** The messages from the root to `headId`, oldest first. A cycle or a missing parent ends the walk. */
export function pathTo(messages: MessageMap, headId: string | null): Message[] {
  const path: Message[] = [];
  const seen = new Set<string>();
  let next = headId;
  while (next !== null && !seen.has(next)) {
    const message = messages.get(next);
    if (!message) break;
    seen.add(next);
    path.push(message);
    next = message.parentId;
  }
  return path.reverse();
}

/** The alternatives to `message` (its siblings and itself), oldest first. */
export function alternatives(messages: MessageMap, message: Message): Message[] {
  return byAge([...messages.values()].filter((other) => other.parentId === message.parentId && other.role === message.role));
}

/** The last message of the newest branch below `id`. */
export function newestLeaf(messages: MessageMap, id: string): string {
  const children = new Map<string, Message[]>();
  for (const message of messages.values()) {
    if (message.parentId === null) continue;
    const list = children.get(message.parentId);
    if (list) list.push(message);
    else children.set(message.parentId, [message]);
  }
  const seen = new Set<string>();
  let leaf = id;
  while (!seen.has(leaf)) {
    seen.add(leaf);
    const newest = byAge(children.get(leaf) ?? []).at(-1);
    if (!newest) break;
    leaf = newest.id;
  }
  return leaf;
}

/** The conversation's head; if that message no longer exists, the newest message. */
export function usableHead(messages: MessageMap, headId: string | null): string | null {
  if (headId !== null && messages.has(headId)) return headId;
  return byAge([...messages.values()]).at(-1)?.id ?? null;
}

function byAge(messages: Message[]): Message[] {
  return messages.sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
}
