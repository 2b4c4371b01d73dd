// GET /api/facts: the server's model, its limits and its defaults. Fields that are missing or of another type count as
// unknown, so that a page and a server of different versions still work together.

import { withAccess } from "./access";
import { ApiFailure, refusal } from "./failures";

export interface Defaults {
  system_prompt: string | null;
  temperature: number | null;
  top_p: number | null;
  top_k: number | null;
  min_p: number | null;
  repeat_penalty: number | null;
  max_tokens: number | null;
}

/** The values that the server accepts for a sampling parameter, and its default. */
export interface Limits {
  min: number;
  max: number;
  help: string;
}

export interface Facts {
  name: string;
  architecture: string | null;
  parameters: number | null;
  contextLength: number | null;
  isa: string | null;
  threads: number | null;
  version: string | null;
  defaults: Defaults;
  /** By the parameter's name. */
  sampling: Readonly<Record<string, Limits>>;
}

/** The URL of an endpoint, relative to the page's own. */
export function endpoint(path: string): URL {
  return new URL(path, document.baseURI);
}

export async function fetchFacts(): Promise<Facts> {
  let response: Response;
  try {
    response = await fetch(endpoint("api/facts"), { cache: "no-store", headers: withAccess() });
  } catch {
    throw new ApiFailure("unreachable", "no answer from the server");
  }
  const body: unknown = await response.json().catch(() => null);
  if (!response.ok) throw refusal(response.status, body);
  return readFacts(body);
}

export function readFacts(body: unknown): Facts {
  const root = fields(body);
  const defaults = fields(root.defaults);
  return {
    name: text(root.name) ?? "Model",
    architecture: text(root.architecture),
    parameters: number(root.parameters),
    contextLength: number(root.context_length),
    isa: text(root.isa),
    threads: number(root.threads),
    version: text(root.version),
    sampling: readSampling(root.sampling),
    defaults: {
      system_prompt: text(defaults.system_prompt),
      temperature: number(defaults.temperature),
      top_p: number(defaults.top_p),
      top_k: number(defaults.top_k),
      min_p: number(defaults.min_p),
      repeat_penalty: number(defaults.repeat_penalty),
      max_tokens: number(defaults.max_tokens),
    },
  };
}

function readSampling(rows: unknown): Record<string, Limits> {
  const sampling: Record<string, Limits> = {};
  for (const row of Array.isArray(rows) ? rows.map(fields) : []) {
    const [name, min, max, help] = [text(row.name), number(row.min), number(row.max), text(row.help)];
    if (name !== null && min !== null && max !== null && help !== null) sampling[name] = { min, max, help };
  }
  return sampling;
}

function fields(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
