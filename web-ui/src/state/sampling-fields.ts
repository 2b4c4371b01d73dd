// The sampling settings as the page shows them. Ranges and descriptions come from the server, whose table the command
// line and the API read too.

import type { Defaults, Limits } from "../api/facts";
import type { Sampling } from "../store/types";

export interface SamplingField {
  key: keyof Sampling;
  label: string;
  step: number;
  /** The part of the range that a slider covers, if there is one; the number field takes any allowed value. */
  slider: { min: number; max: number } | null;
  /** Shown in an empty field when the server names no default. */
  unset: string;
}

export const SAMPLING_FIELDS: readonly SamplingField[] = [
  { key: "temperature", label: "Temperature", step: 0.05, slider: { min: 0, max: 2 }, unset: "default" },
  { key: "top_p", label: "Top P", step: 0.01, slider: { min: 0, max: 1 }, unset: "default" },
  { key: "top_k", label: "Top K", step: 1, slider: null, unset: "default" },
  { key: "min_p", label: "Min P", step: 0.01, slider: { min: 0, max: 1 }, unset: "default" },
  { key: "repeat_penalty", label: "Repeat penalty", step: 0.01, slider: { min: 0.5, max: 2 }, unset: "default" },
  { key: "max_tokens", label: "Max tokens", step: 1, slider: null, unset: "no limit" },
  { key: "seed", label: "Seed", step: 1, slider: null, unset: "random" },
];

/** The value the server uses when the request has none; null if it has no default. */
export function serverDefault(field: SamplingField, defaults: Defaults | null): number | null {
  return field.key === "seed" || defaults === null ? null : defaults[field.key];
}

/** Parses a field: undefined (empty: the default), a number, or a message that says what is wrong. */
export function readField(field: SamplingField, text: string, limits: Limits | undefined): { value?: number } | { problem: string } {
  const trimmed = text.trim().replace(",", ".");
  if (trimmed === "") return {};
  const value = Number(trimmed);
  if (!Number.isFinite(value)) return { problem: `${field.label} is a number` };
  if (field.step === 1 && !Number.isInteger(value)) return { problem: `${field.label} is a whole number` };
  // Beyond this, a double no longer holds the integer that was typed.
  if (field.step === 1 && !Number.isSafeInteger(value)) return { problem: `${field.label} is too large` };
  if (limits && value < limits.min) return { problem: `${field.label} is ${limits.min} or more` };
  if (limits && value > limits.max) return { problem: `${field.label} is ${limits.max} or less` };
  return { value };
}
