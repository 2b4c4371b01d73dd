// An empty conversation: the model's name and size, and a few suggestions to begin with.

import type { JSX } from "preact";
import { answering, send } from "../state/answers";
import { storageProblem } from "../state/conversations";
import { focusComposer } from "../state/layout";
import { facts } from "../state/server";
import { count, parameters } from "./format";
import { Mark } from "./icons";

const BEGINNINGS = [
  "Explain how a rainbow forms, in simple words",
  "Write a short poem about the sea at night",
  "Write a Python function that finds duplicates in a list",
  "Give me five ideas for a rainy Sunday",
];

export function Welcome(): JSX.Element {
  const known = facts.value;
  const details = known && [
    known.parameters !== null ? `${parameters(known.parameters)} parameters` : null,
    known.contextLength !== null ? `${count(known.contextLength)} tokens of context` : null,
    known.isa !== null && known.threads !== null ? `${known.isa}, ${known.threads} ${known.threads === 1 ? "thread" : "threads"}` : null,
  ];
  return (
    <div class="welcome">
      <Mark />
      <h2>{known ? known.name : "Satchel"}</h2>
      <p class="welcome-facts">{details ? details.filter((one) => one !== null).join(" · ") : "Looking for the server…"}</p>
      {known && storageProblem.value === null && (
        <ul class="beginnings" aria-label="Ways to begin">
          {BEGINNINGS.map((text) => (
            <li key={text}>
              <button
                type="button"
                onClick={() => {
                  if (!answering.value) void send(text);
                  focusComposer();
                }}
              >
                {text}
              </button>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
