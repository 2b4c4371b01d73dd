// The message field. Enter sends, Shift+Enter starts a new line; while an answer is being written the button stops it.
// Unsent text is kept per conversation for this tab, and survives a reload.

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { answering, send, stop } from "../state/answers";
import { current, storageProblem } from "../state/conversations";
import { notify } from "../state/notices";
import { facts } from "../state/server";
import { Icon } from "./icons";

export function Composer({ onEditLast }: { onEditLast: () => void }): JSX.Element {
  const key = `satchel.unsent.${current.value?.id ?? "new"}`;
  const [text, setText] = useUnsent(key);
  const field = useRef<HTMLTextAreaElement>(null);
  const name = facts.value?.name;
  const blocked = storageProblem.value !== null;
  useLayoutEffect(() => fit(field.current), [text]);

  const submit = (): void => {
    if (answering.value || blocked || text.trim() === "") return;
    setText("");
    send(text.trim()).catch((error: unknown) => {
      setText(text);
      notify(`The message was not sent: ${error instanceof Error ? error.message : String(error)}.`, null, "problem");
    });
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <div class="composer-box">
        <label for="message" class="visually-hidden">
          Message
        </label>
        <textarea
          id="message"
          ref={field}
          rows={1}
          value={text}
          placeholder={name ? `Message ${name}` : "Message"}
          aria-describedby="composer-hint"
          aria-keyshortcuts="Enter"
          enterkeyhint="send"
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
              event.preventDefault();
              submit();
            } else if (event.key === "ArrowUp" && text === "" && !answering.value) {
              event.preventDefault();
              onEditLast();
            }
          }}
        />
        {answering.value ? (
          <button type="button" class="send stop" aria-label="Stop the answer" title="Stop (Escape)" onClick={stop}>
            <Icon name="stop" />
          </button>
        ) : (
          <button type="submit" class="send" aria-label="Send" title="Send (Enter)" aria-disabled={text.trim() === "" || blocked}>
            <Icon name="send" />
          </button>
        )}
      </div>
      <p id="composer-hint" class="composer-hint">
        <span>Runs on this machine. Nothing you write leaves it.</span>
        <span class="keys-hint">
          <kbd>Enter</kbd> sends · <kbd>Shift</kbd>+<kbd>Enter</kbd> new line
        </span>
      </p>
    </form>
  );
}

function useUnsent(key: string): [string, (text: string) => void] {
  const [text, setText] = useState(() => load(key));
  useEffect(() => setText(load(key)), [key]);
  return [
    text,
    (next) => {
      setText(next);
      try {
        if (next === "") sessionStorage.removeItem(key);
        else sessionStorage.setItem(key, next);
      } catch {
        // Storage is blocked: the text lasts as long as the page.
      }
    },
  ];
}

function load(key: string): string {
  try {
    return sessionStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

/** Makes the field as high as its text, up to the maximum in the style sheet. */
export function fit(field: HTMLTextAreaElement | null): void {
  if (!field) return;
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight + field.offsetHeight - field.clientHeight}px`;
}
