// Notices over the page, and the live region that screen readers follow.

import type { JSX } from "preact";
import { announcement, dismiss, notices } from "../state/notices";
import { IconButton } from "./button";

export function Notices(): JSX.Element {
  return (
    <>
      <div class="notices" role="region" aria-label="Notices">
        {notices.value.map((notice) => (
          <div key={notice.id} class={`notice-card ${notice.kind}`}>
            <span>{notice.text}</span>
            {notice.action && (
              <button
                type="button"
                class="link"
                onClick={() => {
                  notice.action?.run();
                  dismiss(notice.id);
                }}
              >
                {notice.action.label}
              </button>
            )}
            <IconButton icon="close" label="Dismiss" onClick={() => dismiss(notice.id)} />
          </div>
        ))}
      </div>
      <div class="visually-hidden" role="status" aria-live="polite">
        {announcement.value}
      </div>
    </>
  );
}
