// Short messages that appear over the page (with something to undo, where it can be), and what a screen reader says.

import { signal } from "@preact/signals";

export interface Notice {
  id: number;
  text: string;
  kind: "info" | "problem";
  action: { label: string; run: () => void } | null;
}

const SHOWN_MS = 8000;

export const notices = signal<readonly Notice[]>([]);
/** Read out politely when it changes. */
export const announcement = signal("");

let lastId = 0;

export function notify(text: string, action: Notice["action"] = null, kind: Notice["kind"] = "info"): void {
  const id = ++lastId;
  notices.value = [...notices.value.slice(-2), { id, text, kind, action }];
  announce(action ? `${text} ${action.label} is available.` : text);
  setTimeout(() => dismiss(id), SHOWN_MS);
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

/** The same text twice is read twice: a no-break space makes it differ. */
export function announce(text: string): void {
  announcement.value = announcement.value === text ? `${text}\u00a0` : text;
}
