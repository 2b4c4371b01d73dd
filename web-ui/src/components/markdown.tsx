// Shows Markdown that may still grow. Unchanged blocks keep their DOM, so that a selection in an earlier paragraph
// survives while the answer goes on, and each update costs little.

import type { JSX } from "preact";
import { memo } from "preact/compat";
import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { type Block, blocksOf, renderBlock } from "../markdown/render";
import { copyText } from "./clipboard";

export function Markdown({ text, final }: { text: string; final: boolean }): JSX.Element {
  const blocks = useMemo(() => blocksOf(text), [text]);
  return (
    <div class="markdown" onClick={copyCode}>
      {blocks.map((block, index) => (
        <BlockView key={index} block={block} final={final} />
      ))}
    </div>
  );
}

// `final` renders all blocks once more at the end: a link's definition may have come after the link.
const BlockView = memo(
  function BlockView({ block }: { block: Block; final: boolean }): JSX.Element {
    const place = useRef<HTMLDivElement>(null);
    useLayoutEffect(() => place.current?.replaceChildren(renderBlock(block)));
    return <div ref={place} />;
  },
  (before, after) => before.block.raw === after.block.raw && before.final === after.final,
);

function copyCode(event: MouseEvent): void {
  const button = (event.target as Element).closest<HTMLButtonElement>(".code-copy");
  const code = button?.closest(".code-block")?.querySelector("pre")?.textContent;
  if (!button || code == null) return;
  void copyText(code).then((done) => {
    if (!done) return;
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
}
