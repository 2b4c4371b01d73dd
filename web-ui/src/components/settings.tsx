// The settings of a conversation: its system prompt, and how tokens are sampled. A change applies from the next answer
// on. An empty field means the default, which its placeholder shows.

import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { changeSettings, current, sampling, systemPrompt } from "../state/conversations";
import { settingsOpen } from "../state/layout";
import { notify } from "../state/notices";
import { ownSampling, setOwnSampling } from "../state/preferences";
import { SAMPLING_FIELDS, type SamplingField, readField, serverDefault } from "../state/sampling-fields";
import { facts } from "../state/server";
import { IconButton } from "./button";

export function Settings(): JSX.Element {
  const changed = Object.keys(sampling.value).length > 0;
  const conversation = current.value?.id ?? "new";
  return (
    <div class="settings">
      <div class="panel-head">
        <h2>Settings of this chat</h2>
        <IconButton icon="close" label="Close settings" onClick={() => (settingsOpen.value = false)} />
      </div>
      <div class="panel-body">
        <SystemPrompt key={`system-${conversation}`} />
        <fieldset>
          <legend>Sampling</legend>
          {SAMPLING_FIELDS.map((field) => (
            <Field key={`${field.key}-${conversation}`} field={field} />
          ))}
          <div class="panel-actions">
            <button type="button" class="plain" aria-disabled={!changed} onClick={() => void changeSettings({ sampling: {} })}>
              Reset to defaults
            </button>
            <button
              type="button"
              class="plain"
              aria-disabled={JSON.stringify(sampling.value) === JSON.stringify(ownSampling.value)}
              onClick={() => {
                setOwnSampling(sampling.value);
                notify(changed ? "New chats start with these settings." : "New chats start with the model's defaults.");
              }}
            >
              Use for new chats
            </button>
          </div>
        </fieldset>
        <About />
      </div>
    </div>
  );
}

function SystemPrompt(): JSX.Element {
  const own = systemPrompt.value;
  const standard = facts.value?.defaults.system_prompt ?? "";
  const [text, setText] = useState(own ?? standard);
  useEffect(() => setText(own ?? standard), [own, standard]);
  const commit = (): void => {
    if (text !== (own ?? standard)) void changeSettings({ systemPrompt: text });
  };
  return (
    <div class="field">
      <div class="field-head">
        <label for="system-prompt">System prompt</label>
        {own !== null && (
          <button type="button" class="link" onClick={() => void changeSettings({ systemPrompt: null })}>
            Reset<span class="visually-hidden"> the system prompt</span>
          </button>
        )}
      </div>
      <textarea id="system-prompt" rows={5} value={text} placeholder="The model's own" aria-describedby="system-prompt-help" onInput={(event) => setText(event.currentTarget.value)} onBlur={commit} />
      <p id="system-prompt-help" class="help">
        Tells the model who it is and how to answer.
      </p>
    </div>
  );
}

function Field({ field }: { field: SamplingField }): JSX.Element {
  const value = sampling.value[field.key];
  const standard = serverDefault(field, facts.value?.defaults ?? null);
  const limits = facts.value?.sampling[field.key];
  const [text, setText] = useState(value === undefined ? "" : String(value));
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    setText(value === undefined ? "" : String(value));
    setProblem(null);
  }, [value]);
  const id = `sampling-${field.key}`;
  const enter = (typed: string): void => {
    setText(typed);
    const result = readField(field, typed, limits);
    if ("problem" in result) {
      setProblem(result.problem);
      return;
    }
    setProblem(null);
    const { [field.key]: _old, ...rest } = sampling.value;
    void changeSettings({ sampling: result.value === undefined ? rest : { ...rest, [field.key]: result.value } });
  };
  return (
    <div class="field">
      <div class="field-head">
        <label for={id}>{field.label}</label>
        <input
          id={id}
          type="text"
          inputMode="decimal"
          autoComplete="off"
          value={text}
          placeholder={standard === null ? field.unset : String(standard)}
          aria-describedby={`${id}-help`}
          aria-invalid={problem !== null}
          onInput={(event) => enter(event.currentTarget.value)}
        />
      </div>
      {field.slider && (
        <input
          type="range"
          min={field.slider.min}
          max={field.slider.max}
          step={field.step}
          value={value ?? standard ?? field.slider.min}
          aria-label={`${field.label}, slider`}
          class={value === undefined ? "unset" : ""}
          onInput={(event) => enter(event.currentTarget.value)}
        />
      )}
      <p id={`${id}-help`} class={problem ? "help problem" : "help"} role={problem ? "alert" : undefined}>
        {problem ? `${problem}.` : limits && `${limits.help}.`}
      </p>
    </div>
  );
}

function About(): JSX.Element | null {
  const known = facts.value;
  if (!known) return null;
  const rows: [string, string | null][] = [
    ["Model", known.name],
    ["Architecture", known.architecture],
    ["Instruction set", known.isa],
    ["Threads", known.threads === null ? null : String(known.threads)],
    ["Satchel", known.version],
  ];
  return (
    <section aria-labelledby="about">
      <h3 id="about">About</h3>
      <dl class="facts">
        {rows.map(
          ([name, value]) =>
            value !== null && (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ),
        )}
      </dl>
    </section>
  );
}
