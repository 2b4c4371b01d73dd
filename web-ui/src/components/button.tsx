// Icon-only buttons, with an accessible name.

import type { JSX, Ref } from "preact";
import { Icon, type IconName } from "./icons";

interface Props {
  icon: IconName;
  label: string;
  onClick: (event: MouseEvent) => void;
  /** Keyboard shortcut, shown with the label. */
  keys?: string;
  class?: string;
  disabled?: boolean;
  pressed?: boolean;
  expanded?: boolean;
  controls?: string;
  buttonRef?: Ref<HTMLButtonElement>;
}

export function IconButton({ icon, label, onClick, keys, disabled, pressed, expanded, controls, buttonRef, class: extra }: Props): JSX.Element {
  return (
    <button
      type="button"
      ref={buttonRef ?? null}
      class={`icon-button ${extra ?? ""}`}
      aria-label={label}
      title={keys ? `${label} (${keys})` : label}
      aria-pressed={pressed}
      aria-expanded={expanded}
      aria-controls={controls}
      aria-disabled={disabled ? true : undefined}
      onClick={(event) => {
        if (!disabled) onClick(event);
      }}
    >
      <Icon name={icon} />
    </button>
  );
}
