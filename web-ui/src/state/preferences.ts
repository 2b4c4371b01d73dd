// The user's settings for this browser: the theme, and the sampling settings that new conversations start with.
// Kept in localStorage, because the theme is needed before the first paint (public/theme.js).

import { signal } from "@preact/signals";
import type { Sampling } from "../store/types";

export type Theme = "system" | "light" | "dark";

const THEME_KEY = "satchel.theme";
const SAMPLING_KEY = "satchel.sampling";

export const theme = signal<Theme>(readTheme(load(THEME_KEY)));
export const ownSampling = signal<Sampling>(readSampling(load(SAMPLING_KEY)));

export function setTheme(choice: Theme): void {
  theme.value = choice;
  save(THEME_KEY, choice === "system" ? null : choice);
  applyTheme();
}

export function setOwnSampling(sampling: Sampling): void {
  ownSampling.value = sampling;
  save(SAMPLING_KEY, Object.keys(sampling).length === 0 ? null : JSON.stringify(sampling));
}

/** A storage event means that another tab changed the preferences; this one follows. */
export function followOtherTabs(): void {
  addEventListener("storage", (event) => {
    if (event.key === THEME_KEY || event.key === null) {
      theme.value = readTheme(load(THEME_KEY));
      applyTheme();
    }
    if (event.key === SAMPLING_KEY || event.key === null) ownSampling.value = readSampling(load(SAMPLING_KEY));
  });
}

function applyTheme(): void {
  if (theme.value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
}

function readTheme(text: string | null): Theme {
  return text === "light" || text === "dark" ? text : "system";
}

function readSampling(text: string | null): Sampling {
  try {
    const value: unknown = JSON.parse(text ?? "{}");
    if (typeof value !== "object" || value === null) return {};
    return Object.fromEntries(Object.entries(value).filter(([, field]) => typeof field === "number"));
  } catch {
    return {};
  }
}

function load(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function save(key: string, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch {
    // Storage is blocked or full: the choice lasts as long as the page.
  }
}
