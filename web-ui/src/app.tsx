// The page as a whole: the list of conversations, the open one, its settings; routing and keyboard shortcuts.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Composer } from "./components/composer";
import { Dialog } from "./components/dialog";
import { Header } from "./components/header";
import { Help } from "./components/help";
import { Icon } from "./components/icons";
import { KeyForm } from "./components/key-form";
import { Notices } from "./components/notices";
import { Settings } from "./components/settings";
import { Sidebar, newChat } from "./components/sidebar";
import { Transcript } from "./components/transcript";
import { answering, stop } from "./state/answers";
import { current, importFile, list, openConversation, path, storageProblem } from "./state/conversations";
import { focusComposer, helpOpen, narrow, roomy, settingsOpen, sidebarOpen } from "./state/layout";
import { notify } from "./state/notices";
import { checkServer, facts, needsKey, serverProblem } from "./state/server";

export function App(): JSX.Element {
  const [editing, setEditing] = useState<string | null>(null);
  useAddress(() => setEditing(null));
  useKeys();
  useDroppedFiles();
  const title = current.value?.title;
  const name = facts.value?.name ?? "Satchel";
  useEffect(() => {
    document.title = title ? `${title} · ${name}` : name;
  }, [title, name]);
  const editLast = (): void => setEditing(path.value.findLast((message) => message.role === "user")?.id ?? null);
  return (
    <div class="page">
      <a class="skip" href="#message" onClick={(event) => (event.preventDefault(), focusComposer())}>
        Skip to the message field
      </a>
      {sidebarOpen.value && (narrow.value ? <Drawer /> : <Sidebar />)}
      <main class="main">
        <Header />
        <Problems />
        <Transcript editing={editing} onEdit={setEditing} />
        <Composer onEditLast={editLast} />
      </main>
      {settingsOpen.value && <SettingsPanel />}
      {helpOpen.value && <Help />}
      <Notices />
    </div>
  );
}

function Drawer(): JSX.Element {
  return (
    <Dialog label="Conversations" kind="drawer" onClose={() => (sidebarOpen.value = false)}>
      <Sidebar />
    </Dialog>
  );
}

function SettingsPanel(): JSX.Element {
  if (roomy.value) {
    return (
      <aside class="settings-aside" aria-label="Settings of this chat">
        <Settings />
      </aside>
    );
  }
  return (
    <Dialog label="Settings of this chat" kind="drawer right" onClose={() => (settingsOpen.value = false)}>
      <Settings />
    </Dialog>
  );
}

/** Problems that keep the page from working, shown above the conversation. */
function Problems(): JSX.Element {
  return (
    <div role="alert">
      {needsKey.value && <KeyForm />}
      {serverProblem.value && (
        <div class="banner">
          <Icon name="warning" />
          <p>
            <strong>{serverProblem.value.title}.</strong> {serverProblem.value.detail}
          </p>
          <button type="button" class="plain" onClick={() => void checkServer()}>
            Check again
          </button>
        </div>
      )}
      {storageProblem.value && (
        <div class="banner">
          <Icon name="warning" />
          <p>{storageProblem.value}</p>
        </div>
      )}
    </div>
  );
}

/** The URL fragment names the open conversation: #/c/ID. */
function useAddress(onChange: () => void): void {
  useEffect(() => {
    const follow = (): void => {
      const id = /^#\/c\/([0-9a-f]{32})$/.exec(location.hash)?.[1] ?? null;
      if (storageProblem.value !== null) return;
      onChange();
      void openConversation(id).then((found) => {
        if (found) return;
        notify("This conversation is not in this browser. It may have been deleted.");
        location.replace("#/");
      });
    };
    follow();
    addEventListener("hashchange", follow);
    if (!narrow.value) focusComposer();
    return () => removeEventListener("hashchange", follow);
  }, []);
}

function useKeys(): void {
  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent): void => {
      if (event.defaultPrevented || event.isComposing) return;
      const command = event.ctrlKey || event.metaKey;
      const key = event.key.toLowerCase();
      // An open dialog or menu handles Escape itself.
      if (key === "escape" && !document.querySelector("dialog[open], [popover]:popover-open")) {
        if (answering.value) stop();
        else if (settingsOpen.value) settingsOpen.value = false;
        else return;
      } else if (document.querySelector("dialog.help-dialog")) return;
      else if (command && event.shiftKey && key === "o") newChat();
      else if (command && !event.shiftKey && key === "k") focusSearch();
      else if (command && !event.shiftKey && key === "b") sidebarOpen.value = !sidebarOpen.value;
      else if (command && key === ",") settingsOpen.value = !settingsOpen.value;
      else if (command && key === "/") helpOpen.value = true;
      else if (event.altKey && !command && (key === "arrowup" || key === "arrowdown")) move(key === "arrowup" ? -1 : 1);
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", onKeyDown);
    return () => removeEventListener("keydown", onKeyDown);
  }, []);
}

/** Without waiting for a frame if the field exists already: the next keystrokes are meant for it. */
function focusSearch(): void {
  const focus = (): boolean => {
    const field = document.getElementById("search");
    field?.focus();
    return field !== null;
  };
  sidebarOpen.value = true;
  if (!focus()) requestAnimationFrame(focus);
}

function move(offset: number): void {
  const at = list.value.findIndex((one) => one.id === current.value?.id);
  const target = list.value[at === -1 ? 0 : at + offset];
  if (target) location.hash = `#/c/${target.id}`;
}

/** Imports a file that is dropped on the page; by default the browser would navigate to it. */
function useDroppedFiles(): void {
  useEffect(() => {
    const holdsFiles = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
    const onDragOver = (event: DragEvent): void => {
      if (holdsFiles(event)) event.preventDefault();
    };
    const onDrop = (event: DragEvent): void => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      const file = event.dataTransfer?.files[0];
      if (file) void importFile(file);
    };
    addEventListener("dragover", onDragOver);
    addEventListener("drop", onDrop);
    return () => {
      removeEventListener("dragover", onDragOver);
      removeEventListener("drop", onDrop);
    };
  }, []);
}
