// What is open around the conversation, and how wide the window is. On a narrow one the side panels are modal.

import { signal } from "@preact/signals";

const narrowQuery = matchMedia("(max-width: 52rem)");
const roomyQuery = matchMedia("(min-width: 75rem)");

/** Too narrow for the list of conversations beside the conversation. */
export const narrow = signal(narrowQuery.matches);
/** Wide enough for settings beside the conversation. */
export const roomy = signal(roomyQuery.matches);
/** The list of conversations: shown beside on wide windows, as a drawer on narrow ones. */
export const sidebarOpen = signal(!narrowQuery.matches);
export const settingsOpen = signal(false);
export const helpOpen = signal(false);

narrowQuery.addEventListener("change", () => {
  narrow.value = narrowQuery.matches;
  sidebarOpen.value = !narrowQuery.matches;
});
roomyQuery.addEventListener("change", () => (roomy.value = roomyQuery.matches));

/** Focuses the message field. */
export function focusComposer(): void {
  document.getElementById("message")?.focus();
}
