// One message: its text, its actions, and the answer's timings.

import type { JSX } from "preact";
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { divideThinking } from "../markdown/thinking";
import { type Live, answer, answering, edit, regenerate, writing } from "../state/answers";
import { messages, showAlternative } from "../state/conversations";
import { focusComposer } from "../state/layout";
import { alternatives } from "../store/tree";
import type { Message } from "../store/types";
import { IconButton } from "./button";
import { copyText } from "./clipboard";
import { fit } from "./composer";
import { count, rate, seconds } from "./format";
import { Icon } from "./icons";
import { Markdown } from "./markdown";

/** Longer questions (mostly pasted text) are collapsed. */
const FOLDED_CHARACTERS = 1500;
const FOLDED_LINES = 16;

export function Question({ message, editing, onEdit }: { message: Message; editing: boolean; onEdit: (on: boolean) => void }): JSX.Element {
  const [whole, setWhole] = useState(false);
  const long = message.content.length > FOLDED_CHARACTERS || message.content.split("\n").length > FOLDED_LINES;
  if (editing) return <Editor message={message} onClose={() => onEdit(false)} />;
  return (
    <article class="message question">
      <h2 class="visually-hidden">You</h2>
      <div class={long && !whole ? "bubble folded" : "bubble"}>{message.content}</div>
      {long && (
        <button type="button" class="link" aria-expanded={whole} onClick={() => setWhole(!whole)}>
          {whole ? "Show less" : "Show all"}
        </button>
      )}
      <div class="actions">
        <Alternatives message={message} />
        <IconButton icon="edit" label="Edit message" disabled={answering.value} onClick={() => onEdit(true)} />
        <CopyButton label="Copy message" text={message.content} />
      </div>
    </article>
  );
}

function Editor({ message, onClose }: { message: Message; onClose: () => void }): JSX.Element {
  const [text, setText] = useState(message.content);
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.length, text.length);
  }, []);
  useLayoutEffect(() => fit(field.current), [text]);
  const save = (): void => {
    if (text.trim() === "" || answering.value) return;
    onClose();
    void edit(message, text.trim());
    focusComposer();
  };
  const cancel = (): void => {
    onClose();
    focusComposer();
  };
  return (
    <form
      class="message question editor"
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <textarea
        ref={field}
        aria-label="Edit message"
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            save();
          } else if (event.key === "Escape") {
            event.preventDefault();
            event.stopPropagation();
            cancel();
          }
        }}
      />
      <div class="editor-actions">
        <span class="hint">Asks again from here; the earlier version stays as an alternative.</span>
        <button type="button" class="plain" onClick={cancel}>
          Cancel
        </button>
        <button type="submit" class="primary" aria-disabled={text.trim() === ""}>
          Send
        </button>
      </div>
    </form>
  );
}

export function Answer({ message, last }: { message: Message; last: boolean }): JSX.Element {
  const live = writing.value.get(message.id)?.live.value;
  const { thinking, answer: text, open } = divideThinking(live?.content ?? message.content, live?.reasoning ?? message.reasoning);
  const busy = live !== undefined || message.status === "streaming";
  return (
    <article class="message answer" aria-busy={busy}>
      <h2 class="answer-name">{message.model ?? "Model"}</h2>
      {thinking !== "" && (
        <details class="thinking">
          <summary>{busy && open ? "Thinking…" : "Thoughts"}</summary>
          <Markdown text={thinking} final={!busy} />
        </details>
      )}
      {text !== "" && <Markdown text={text} final={!busy} />}
      {busy && text === "" && !thinking && (
        <p class="waiting">
          <span class="dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          Reading the conversation…
        </p>
      )}
      {!busy && <Outcome message={message} />}
      <div class="answer-foot">
        {!busy && (
          <div class="actions">
            <Alternatives message={message} />
            {text !== "" && <CopyButton label="Copy answer" text={text} />}
            {last && message.status !== "failed" && <IconButton icon="retry" label="Regenerate answer" disabled={answering.value} onClick={() => void regenerate(message).then(focusComposer)} />}
          </div>
        )}
        {live ? <LiveFigures live={live} /> : <Figures message={message} />}
      </div>
    </article>
  );
}

/** A question without an answer: its tab was closed before one began. */
export function Unanswered({ message }: { message: Message }): JSX.Element {
  return (
    <div class="outcome" role="note">
      <p>This message has no answer yet.</p>
      <button type="button" class="plain" onClick={() => void answer(message.conversationId, message.id)}>
        Answer it
      </button>
    </div>
  );
}

/** How the answer ended, unless it simply completed. */
function Outcome({ message }: { message: Message }): JSX.Element | null {
  const { status, failure, finishReason, timings } = message;
  if (status === "failed") {
    return (
      <div class="outcome problem" role="group" aria-label="Problem">
        <Icon name="warning" />
        <div>
          <p class="outcome-title">{failure?.title ?? "The answer failed"}</p>
          <p>{failure?.detail}</p>
        </div>
        <button type="button" class="plain" onClick={() => void regenerate(message)}>
          Try again
        </button>
      </div>
    );
  }
  if (status === "stopped") return <p class="outcome">You stopped this answer.</p>;
  if (status === "interrupted") return <p class="outcome">The page was closed or reloaded before the answer was complete.</p>;
  if (finishReason === "length") {
    const full = timings !== null && timings.context_used >= timings.context_length - 1;
    return (
      <div class="outcome notice" role="note">
        <Icon name="warning" />
        {full ? (
          <p>
            <strong>The context is full.</strong> The model can hold {count(timings.context_length)} tokens, and this conversation uses them all, so the answer ends here. Start a new
            chat, or edit an earlier message to go on from there.
          </p>
        ) : (
          <p>
            <strong>The answer reached its limit</strong>
            {timings ? ` of ${count(timings.generated_tokens)} tokens` : ""}. Raise “Max tokens” in the settings and regenerate for a longer one.
          </p>
        )}
      </div>
    );
  }
  if (message.content === "" && message.reasoning === "") return <p class="outcome">The model's answer was empty.</p>;
  return null;
}

function LiveFigures({ live }: { live: Live }): JSX.Element | null {
  if (live.firstTokenAt === null || live.tokens < 2) return null;
  const elapsed = (performance.now() - live.firstTokenAt) / 1000;
  return (
    <p class="figures" aria-hidden="true">
      {elapsed > 0 ? `${rate((live.tokens - 1) / elapsed)} tokens/s · ` : ""}
      {count(live.tokens)} tokens
    </p>
  );
}

function Figures({ message: { timings } }: { message: Message }): JSX.Element | null {
  if (!timings) return null;
  const cached = timings.cached_tokens > 0 ? `, ${count(timings.cached_tokens)} of them from the cache` : "";
  const details =
    `Prompt: ${count(timings.prompt_tokens)} tokens${cached}, read in ${seconds(timings.prompt_ms)}. ` +
    `Answer: ${count(timings.generated_tokens)} tokens in ${seconds(timings.generated_ms)}.`;
  return (
    <p class="figures" title={details}>
      {rate(timings.generated_per_second)} tokens/s · {count(timings.generated_tokens)} tokens · {seconds(timings.prompt_ms)} to first token
    </p>
  );
}

function Alternatives({ message }: { message: Message }): JSX.Element | null {
  const all = alternatives(messages.value, message);
  if (all.length < 2) return null;
  const at = all.findIndex((one) => one.id === message.id);
  const blocked = answering.value;
  return (
    <div class="alternatives" role="group" aria-label="Alternatives">
      <IconButton icon="left" label="Previous alternative" disabled={blocked || at === 0} onClick={() => void showAlternative(message, -1)} />
      <span>
        {at + 1}/{all.length}
      </span>
      <IconButton icon="right" label="Next alternative" disabled={blocked || at === all.length - 1} onClick={() => void showAlternative(message, 1)} />
    </div>
  );
}

function CopyButton({ label, text }: { label: string; text: string }): JSX.Element {
  const [copied, setCopied] = useState(false);
  return (
    <IconButton
      icon={copied ? "check" : "copy"}
      label={label}
      onClick={() =>
        void copyText(text).then((done) => {
          setCopied(done);
          setTimeout(() => setCopied(false), 1500);
        })
      }
    />
  );
}
