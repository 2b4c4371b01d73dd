// Copying text. navigator.clipboard exists only on https and localhost; execCommand("copy") works elsewhere too.

import { announce, notify } from "../state/notices";

export async function copyText(text: string): Promise<boolean> {
  const done = await writeText(text);
  if (done) announce("Copied.");
  else notify("This browser did not let the page copy. Select the text and copy it yourself.", null, "problem");
  return done;
}

async function writeText(text: string): Promise<boolean> {
  try {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
      return true;
    }
  } catch {
    // Refused: execCommand may still work.
  }
  const focused = document.activeElement;
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "visually-hidden";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  if (focused instanceof HTMLElement) focused.focus();
  return done;
}
