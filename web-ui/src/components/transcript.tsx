// The open conversation. It follows an answer as it grows until the user scrolls up; then it stays where it is and shows
// a button that goes back to the end.

import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { answering, busyConversations } from "../state/answers";
import { current, path } from "../state/conversations";
import { Icon } from "./icons";
import { Answer, Question, Unanswered } from "./message";
import { Welcome } from "./welcome";

const NEAR_END_PX = 48;

interface Props {
  editing: string | null;
  onEdit: (id: string | null) => void;
}

export function Transcript({ editing, onEdit }: Props): JSX.Element {
  const { scroller, content, follows, toEnd } = useFollowing();
  const shown = path.value;
  const id = current.value?.id;
  const end = shown.at(-1);
  // Sending a message or opening a conversation scrolls to the end.
  useLayoutEffect(() => toEnd(false), [id, end?.id]);
  return (
    <div class="transcript-frame">
      <div class="transcript" ref={scroller} tabIndex={0} role="region" aria-label="Conversation">
        <div class="column" ref={content}>
          {shown.length === 0 && <Welcome />}
          {shown.map((message) =>
            message.role === "user" ? (
              <Question key={message.id} message={message} editing={editing === message.id} onEdit={(on) => onEdit(on ? message.id : null)} />
            ) : (
              <Answer key={message.id} message={message} last={message.id === end?.id} />
            ),
          )}
          {end?.role === "user" && id !== undefined && !busyConversations.value.has(id) && <Unanswered message={end} />}
        </div>
      </div>
      {!follows && (
        <button type="button" class="to-end" aria-label="Go to the end of the conversation" onClick={() => toEnd(true)}>
          <Icon name="down" />
          {answering.value && <span>Still writing</span>}
        </button>
      )}
    </div>
  );
}

function useFollowing(): { scroller: { current: HTMLDivElement | null }; content: { current: HTMLDivElement | null }; follows: boolean; toEnd: (smooth: boolean) => void } {
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const lastTop = useRef(0);
  const [follows, setFollows] = useState(true);
  const set = (value: boolean): void => {
    following.current = value;
    setFollows(value);
  };
  const toEnd = (smooth: boolean): void => {
    const box = scroller.current;
    if (!box) return;
    set(true);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    box.scrollTo({ top: box.scrollHeight, behavior: smooth && !calm ? "smooth" : "instant" });
  };
  useEffect(() => {
    const box = scroller.current;
    const inner = content.current;
    if (!box || !inner) return;
    const onScroll = (): void => {
      const nearEnd = box.scrollHeight - box.clientHeight - box.scrollTop < NEAR_END_PX;
      // Only scrolling up is the user's doing: growing text moves the end away without a scroll.
      if (nearEnd) set(true);
      else if (box.scrollTop < lastTop.current - 1) set(false);
      lastTop.current = box.scrollTop;
    };
    const grown = new ResizeObserver(() => {
      if (following.current) box.scrollTop = box.scrollHeight;
      else set(box.scrollHeight - box.clientHeight - box.scrollTop < NEAR_END_PX);
    });
    box.addEventListener("scroll", onScroll, { passive: true });
    grown.observe(inner);
    grown.observe(box);
    return () => {
      box.removeEventListener("scroll", onScroll);
      grown.disconnect();
    };
  }, []);
  return { scroller, content, follows, toEnd };
}
