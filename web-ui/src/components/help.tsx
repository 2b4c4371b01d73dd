// Keyboard shortcuts, and what this page does with what you write.

import type { JSX } from "preact";
import { helpOpen } from "../state/layout";
import { IconButton } from "./button";
import { Dialog } from "./dialog";

export const SHORTCUTS: readonly [keys: readonly string[], what: string][] = [
  [["Enter"], "Send the message"],
  [["Shift", "Enter"], "New line in the message"],
  [["Esc"], "Stop the answer; close what is open"],
  [["↑"], "Edit the last message (in an empty field)"],
  [["Ctrl", "Shift", "O"], "New chat"],
  [["Ctrl", "K"], "Search conversations"],
  [["Ctrl", "B"], "Show or hide conversations"],
  [["Ctrl", ","], "Settings of this chat"],
  [["Alt", "↑ ↓"], "Previous or next conversation"],
  [["F2"], "Rename the conversation (in the list)"],
  [["Del"], "Delete the conversation (in the list; can be undone)"],
  [["Ctrl", "/"], "This help"],
];

export function Help(): JSX.Element {
  const close = (): void => {
    helpOpen.value = false;
  };
  return (
    <Dialog label="Help" kind="help-dialog" onClose={close}>
      <div class="panel-head">
        <h2>Keyboard</h2>
        <IconButton icon="close" label="Close help" onClick={close} />
      </div>
      <dl class="shortcuts">
        {SHORTCUTS.map(([keys, what]) => (
          <div key={what}>
            <dt>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd>{what}</dd>
          </div>
        ))}
      </dl>
      <p class="help">On a Mac, ⌘ does what Ctrl does here.</p>
      <h2>Where things are</h2>
      <p>
        The model runs on the machine that serves this page. Conversations are kept in this browser only; export them to keep a copy or to move them. The page loads nothing from
        anywhere else: images in answers are shown as links.
      </p>
      <p class="help">
        <a href="./licences.txt" target="_blank" rel="noopener">
          Licences of the libraries in this page
        </a>
      </p>
    </Dialog>
  );
}
