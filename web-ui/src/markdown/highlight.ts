// Colours in code blocks. The highlighter and its languages are a chunk of their own, loaded when the first code
// block appears.

type Highlight = (code: string, language: string) => string | null;

let highlight: Highlight | null = null;
let loading: Promise<void> | null = null;

/** Longer code is shown plain: colouring it would make the page stutter. */
const LIMIT_CHARACTERS = 60_000;

/** Colours a <code> element, now or as soon as the highlighter is there. */
export function colour(code: HTMLElement, language: string): void {
  if (highlight) {
    apply(code, language, highlight);
    return;
  }
  loading ??= import("./languages").then(
    (module) => {
      highlight = module.highlight;
    },
    () => {
      loading = null; // The chunk could not be loaded: this code stays plain, and the next block tries again.
    },
  );
  void loading.then(() => {
    if (highlight) apply(code, language, highlight);
  });
}

function apply(code: HTMLElement, language: string, run: Highlight): void {
  const text = code.textContent ?? "";
  if (text.length > LIMIT_CHARACTERS) return;
  const html = run(text, language);
  // highlight.js escapes the code; its output holds <span class="hljs-…"> and text only.
  if (html !== null) code.innerHTML = html;
}
