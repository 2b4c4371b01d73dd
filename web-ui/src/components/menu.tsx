// A button that opens a menu. The menu is a native popover: it is on top of everything, and closes on Escape or a click
// elsewhere; this file adds its position and the arrow keys.

import type { JSX } from "preact";
import { useId, useRef, useState } from "preact/hooks";
import { Icon, type IconName } from "./icons";

export interface MenuItem {
  icon: IconName;
  label: string;
  run: () => void;
  danger?: boolean;
  keys?: string;
}

export function Menu({ label, icon, items }: { label: string; icon: IconName; items: MenuItem[] }): JSX.Element {
  const id = useId();
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const menu = useRef<HTMLDivElement>(null);

  const onToggle = (event: Event): void => {
    const shown = (event as ToggleEvent).newState === "open";
    setOpen(shown);
    if (!shown || !menu.current || !button.current) return;
    place(menu.current, button.current);
    menu.current.querySelector<HTMLElement>("[role=menuitem]")?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const all = [...(menu.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const target = { ArrowDown: at + 1, ArrowUp: at - 1 + all.length, Home: 0, End: all.length - 1 }[event.key];
    if (target !== undefined) {
      event.preventDefault();
      all[target % all.length]?.focus();
    } else if (event.key === "Tab") menu.current?.hidePopover();
  };
  return (
    <>
      <button type="button" ref={button} class="icon-button" aria-label={label} title={label} aria-haspopup="menu" aria-expanded={open} popoverTarget={id}>
        <Icon name={icon} />
      </button>
      <div ref={menu} id={id} popover="auto" role="menu" aria-label={label} class="menu" onToggle={onToggle} onKeyDown={onKeyDown}>
        {items.map((item) => (
          <button
            key={item.label}
            type="button"
            role="menuitem"
            tabIndex={-1}
            class={item.danger ? "danger" : ""}
            onClick={() => {
              menu.current?.hidePopover();
              item.run();
            }}
          >
            <Icon name={item.icon} />
            <span>{item.label}</span>
            {item.keys && <kbd>{item.keys}</kbd>}
          </button>
        ))}
      </div>
    </>
  );
}

/** Places the menu below the button, or above it if there is no room, and always within the window. */
function place(menu: HTMLElement, button: HTMLElement): void {
  const from = button.getBoundingClientRect();
  const size = menu.getBoundingClientRect();
  const below = from.bottom + 4;
  const top = below + size.height <= innerHeight - 8 ? below : from.top - size.height - 4;
  menu.style.top = `${Math.max(8, top)}px`;
  menu.style.left = `${Math.max(8, Math.min(from.right - size.width, innerWidth - size.width - 8))}px`;
}
