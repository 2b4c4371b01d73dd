// The sampling settings as the page shows them: ranges, steps, and what each does in one sentence.

import type { Defaults } from "../api/facts";
import type { Sampling } from "../store/types";

export interface SamplingField {
  key: keyof Sampling;
  label: string;
  help: string;
  min: number;
  max: number;
  step: number;
  /** Where a slider helps; the number field takes any allowed value. */
  slider: boolean;
  /** What an empty field means when the server names no default. */
  unset: string;
}

export const SAMPLING_FIELDS: readonly SamplingField[] = [
  { key: "temperature", label: "Temperature", help: "Higher is more surprising; 0 always takes the most likely token.", min: 0, max: 2, step: 0.05, slider: true, unset: "default" },
  { key: "top_p", label: "Top P", help: "Keeps the most likely tokens that together reach this probability; 1 keeps all.", min: 0, max: 1, step: 0.01, slider: true, unset: "default" },
  { key: "top_k", label: "Top K", help: "Keeps this many of the most likely tokens; 0 keeps all.", min: 0, max: 1000, step: 1, slider: false, unset: "default" },
  { key: "min_p", label: "Min P", help: "Drops tokens less likely than this share of the most likely one.", min: 0, max: 1, step: 0.01, slider: true, unset: "default" },
  { key: "repeat_penalty", label: "Repeat penalty", help: "Makes tokens that were just used less likely; 1 changes nothing.", min: 0.5, max: 2, step: 0.01, slider: true, unset: "default" },
  { key: "max_tokens", label: "Max tokens", help: "Ends an answer after this many tokens. Empty: until it is complete or the context is full.", min: 1, max: 1_000_000, step: 1, slider: false, unset: "no limit" },
  { key: "seed", label: "Seed", help: "The same seed and settings give the same answer again. Empty: a new one each time.", min: 0, max: 4_294_967_295, step: 1, slider: false, unset: "random" },
];

/** What the server uses when the page sends nothing; null where it has no default. */
export function serverDefault(field: SamplingField, defaults: Defaults | null): number | null {
  return field.key === "seed" || defaults === null ? null : defaults[field.key];
}

/** Reads what was typed: undefined for the default, a number, or a line that says what is wrong. */
export function readField(field: SamplingField, text: string): { value?: number } | { problem: string } {
  const trimmed = text.trim().replace(",", ".");
  if (trimmed === "") return {};
  const value = Number(trimmed);
  if (!Number.isFinite(value)) return { problem: `${field.label} is a number` };
  if (field.step === 1 && !Number.isInteger(value)) return { problem: `${field.label} is a whole number` };
  if (value < field.min || value > field.max) return { problem: `${field.label} is between ${field.min} and ${field.max}` };
  return { value };
}
