// The list of conversations: search, open, rename, export, delete; import and export of all, the theme, help.

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { busyConversations } from "../state/answers";
import { current, exportAll, exportConversation, importFile, list, remove, rename, resetDraft, search } from "../state/conversations";
import { focusComposer, helpOpen, narrow, sidebarOpen } from "../state/layout";
import { type Theme, setTheme, theme } from "../state/preferences";
import type { Conversation } from "../store/types";
import { IconButton } from "./button";
import { period } from "./format";
import { Icon, type IconName, Mark } from "./icons";
import { Menu } from "./menu";

export function newChat(): void {
  resetDraft();
  location.hash = "#/";
  if (narrow.value) sidebarOpen.value = false;
  // Now, since the next keystrokes are meant for the field; and again after a closing drawer has moved the focus away.
  focusComposer();
  requestAnimationFrame(focusComposer);
}

export function Sidebar(): JSX.Element {
  const [query, setQuery] = useState("");
  const found = useSearch(query);
  const shown = found ? list.value.filter((one) => found.has(one.id)) : list.value;
  const fileInput = useRef<HTMLInputElement>(null);
  return (
    <aside class="sidebar" aria-label="Sidebar">
      <div class="sidebar-head">
        <Mark />
        <span class="brand">Satchel</span>
        <IconButton icon={narrow.value ? "close" : "menu"} label="Hide conversations" keys="Ctrl+B" onClick={() => (sidebarOpen.value = false)} />
      </div>
      <button type="button" class="new-chat" onClick={newChat} title="New chat (Ctrl+Shift+O)">
        <Icon name="plus" /> New chat
      </button>
      <search class="search">
        <Icon name="search" />
        <input
          id="search"
          type="search"
          placeholder="Search"
          aria-label="Search conversations"
          title="Search conversations (Ctrl+K)"
          value={query}
          onInput={(event) => setQuery(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Escape" || query === "") return;
            event.preventDefault();
            event.stopPropagation();
            setQuery("");
          }}
        />
      </search>
      <nav class="conversations" aria-label="Conversations">
        <Groups conversations={shown} />
        {shown.length === 0 && <p class="empty">{found ? `No conversation contains “${query}”.` : "Conversations will be listed here. They stay in this browser."}</p>}
      </nav>
      <p class="visually-hidden" role="status">
        {found ? `${shown.length} conversations found` : ""}
      </p>
      <div class="sidebar-foot">
        <ThemeSwitch />
        <IconButton icon="help" label="Keyboard shortcuts and help" keys="Ctrl+/" onClick={() => (helpOpen.value = true)} />
        <Menu
          label="Import and export"
          icon="more"
          items={[
            { icon: "upload", label: "Import conversations…", run: () => fileInput.current?.click() },
            { icon: "download", label: "Export all conversations", run: () => void exportAll() },
          ]}
        />
        <input
          ref={fileInput}
          type="file"
          accept=".json,application/json"
          hidden
          aria-label="File to import"
          onChange={(event) => {
            const file = event.currentTarget.files?.[0];
            event.currentTarget.value = "";
            if (file) void importFile(file);
          }}
        />
      </div>
    </aside>
  );
}

/** The ids that match the query, a moment after the typing stopped; null without a query. */
function useSearch(query: string): Set<string> | null {
  const [found, setFound] = useState<Set<string> | null>(null);
  const wanted = query.trim();
  const conversations = list.value;
  useEffect(() => {
    if (wanted === "") {
      setFound(null);
      return;
    }
    let outdated = false;
    const timer = setTimeout(() => void search(wanted).then((ids) => !outdated && setFound(ids)), 120);
    return () => {
      outdated = true;
      clearTimeout(timer);
    };
  }, [wanted, conversations]);
  return found;
}

function Groups({ conversations }: { conversations: readonly Conversation[] }): JSX.Element {
  const now = Date.now();
  const groups = new Map<string, Conversation[]>();
  for (const one of conversations) {
    const name = period(one.updatedAt, now);
    groups.set(name, [...(groups.get(name) ?? []), one]);
  }
  return (
    <>
      {[...groups].map(([name, members]) => (
        <section key={name} aria-label={name}>
          <h2>{name}</h2>
          <ul>
            {members.map((one) => (
              <Item key={one.id} conversation={one} />
            ))}
          </ul>
        </section>
      ))}
    </>
  );
}

/** A conversation in the list; its title can be edited in place. */
function Item({ conversation }: { conversation: Conversation }): JSX.Element {
  const [renaming, setRenaming] = useState(false);
  const link = useRef<HTMLAnchorElement>(null);
  const { id, title } = conversation;
  const close = (): void => {
    setRenaming(false);
    requestAnimationFrame(() => link.current?.focus());
  };
  if (renaming) {
    return (
      <li>
        <Renaming title={title} onSave={(text) => void rename(id, text).then(close)} onCancel={close} />
      </li>
    );
  }
  return (
    <li class="conversation-item">
      <a
        ref={link}
        href={`#/c/${id}`}
        aria-current={current.value?.id === id ? "page" : undefined}
        title={title}
        onClick={() => {
          if (narrow.value) sidebarOpen.value = false;
        }}
        onDblClick={() => setRenaming(true)}
        onKeyDown={(event) => {
          if (event.key === "F2") setRenaming(true);
          if (event.key === "Delete") removeAndRefocus(id);
        }}
      >
        <span class="conversation-title">{title}</span>
        {busyConversations.value.has(id) && <span class="busy-dot" role="img" aria-label="Answer is being written" />}
      </a>
      <Menu
        label={`Actions for ${title}`}
        icon="more"
        items={[
          { icon: "edit", label: "Rename", keys: "F2", run: () => setRenaming(true) },
          { icon: "download", label: "Export as JSON", run: () => void exportConversation(id, "json") },
          { icon: "download", label: "Export as Markdown", run: () => void exportConversation(id, "markdown") },
          { icon: "trash", label: "Delete", keys: "Del", danger: true, run: () => removeAndRefocus(id) },
        ]}
      />
    </li>
  );
}

/** The focus goes to the next conversation, not to the top of the page. */
function removeAndRefocus(id: string): void {
  const index = list.value.findIndex((one) => one.id === id);
  const next = list.value[index + 1] ?? list.value[index - 1];
  void remove(id).then(() => {
    const target = next && document.querySelector<HTMLElement>(`.conversations a[href="#/c/${next.id}"]`);
    (target ?? document.querySelector<HTMLElement>(".new-chat"))?.focus();
  });
}

function Renaming({ title, onSave, onCancel }: { title: string; onSave: (text: string) => void; onCancel: () => void }): JSX.Element {
  const input = useRef<HTMLInputElement>(null);
  const closed = useRef(false);
  const end = (act: () => void): void => {
    if (closed.current) return;
    closed.current = true;
    act();
  };
  useLayoutEffect(() => input.current?.select(), []);
  return (
    <input
      ref={input}
      class="rename"
      aria-label="Title of the conversation"
      defaultValue={title}
      maxLength={200}
      autoFocus
      onBlur={(event) => {
        const text = event.currentTarget.value;
        end(() => onSave(text));
      }}
      onKeyDown={(event) => {
        const text = event.currentTarget.value;
        if (event.key === "Enter" && !event.isComposing) end(() => onSave(text));
        if (event.key === "Escape") {
          event.preventDefault();
          event.stopPropagation();
          end(onCancel);
        }
      }}
    />
  );
}

const THEMES: readonly { theme: Theme; icon: IconName; label: string }[] = [
  { theme: "system", icon: "system", label: "System theme" },
  { theme: "light", icon: "sun", label: "Light theme" },
  { theme: "dark", icon: "moon", label: "Dark theme" },
];

function ThemeSwitch(): JSX.Element {
  return (
    <div class="theme-switch" role="group" aria-label="Theme">
      {THEMES.map((one) => (
        <IconButton key={one.theme} icon={one.icon} label={one.label} pressed={theme.value === one.theme} onClick={() => setTheme(one.theme)} />
      ))}
    </div>
  );
}
