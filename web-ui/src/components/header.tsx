// The bar above a conversation: its title, how much of the context it uses, and its actions.

import type { JSX } from "preact";
import { current, exportConversation, path, remove } from "../state/conversations";
import { settingsOpen, sidebarOpen } from "../state/layout";
import { facts } from "../state/server";
import { IconButton } from "./button";
import { count } from "./format";
import { Menu } from "./menu";
import { newChat } from "./sidebar";

export function Header(): JSX.Element {
  const open = current.value;
  return (
    <header class="header">
      {!sidebarOpen.value && <IconButton icon="menu" label="Show conversations" keys="Ctrl+B" expanded={false} onClick={() => (sidebarOpen.value = true)} />}
      {!sidebarOpen.value && <IconButton icon="plus" label="New chat" keys="Ctrl+Shift+O" onClick={newChat} />}
      <h1>{open?.title ?? "New chat"}</h1>
      <ContextUse />
      {open && (
        <Menu
          label="Actions for this chat"
          icon="more"
          items={[
            { icon: "download", label: "Export as JSON", run: () => void exportConversation(open.id, "json") },
            { icon: "download", label: "Export as Markdown", run: () => void exportConversation(open.id, "markdown") },
            { icon: "trash", label: "Delete", danger: true, run: () => void remove(open.id) },
          ]}
        />
      )}
      <IconButton icon="settings" label="Settings of this chat" keys="Ctrl+," expanded={settingsOpen.value} onClick={() => (settingsOpen.value = !settingsOpen.value)} />
    </header>
  );
}

/** How full the context is, from the last answer that has timings. */
function ContextUse(): JSX.Element | null {
  const timings = path.value.findLast((message) => message.timings !== null)?.timings;
  const length = timings?.context_length ?? facts.value?.contextLength ?? 0;
  if (!timings || length <= 0) return null;
  const share = Math.min(1, timings.context_used / length);
  const text = `${count(timings.context_used)} of ${count(length)} tokens of context used`;
  return (
    <div class={`context-use ${share > 0.9 ? "nearly-full" : ""}`} title={text}>
      <progress max={1} value={share} aria-label={text} />
      <span aria-hidden="true">
        {count(timings.context_used)} <span class="context-length">/ {count(length)}</span>
      </span>
    </div>
  );
}
