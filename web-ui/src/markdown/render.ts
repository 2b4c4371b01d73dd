// An answer's Markdown to DOM. A model's output is untrusted: it may repeat anything from its prompt.
//
// Three layers: raw HTML in the Markdown is shown as text except for a few harmless tags; the result goes through
// DOMPurify with a short list of tags and attributes; and links and images are rewritten, so that nothing is loaded
// from elsewhere and the page is left only by a click on a link. The Content-Security-Policy backs up all three.

import DOMPurify from "dompurify";
import { Marked, type Token, type Tokens } from "marked";
import { colour } from "./highlight";

/** A top-level block; while an answer grows, only its last block changes. */
export type Block = Token;

const marked = new Marked({ gfm: true, breaks: true });
marked.use({
  renderer: {
    html({ text }: Tokens.HTML | Tokens.Tag): string {
      return HARMLESS_TAG.test(text.trim()) ? text : escapeHtml(text);
    },
    // The page and its dialogs use the first two levels.
    heading({ tokens, depth }: Tokens.Heading): string {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
  },
});

const HARMLESS_TAG = /^<\/?(?:br|sub|sup|kbd|b|i|u|s|em|strong|mark|small)\s*\/?>$/i;

const POLICY = {
  ALLOWED_TAGS: [
    "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "input", "kbd", "li",
    "mark", "ol", "p", "pre", "s", "small", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul",
  ],
  ALLOWED_ATTR: ["href", "title", "src", "alt", "align", "start", "class", "type", "checked", "disabled"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
} as const;

const INLINE_IMAGE = /^data:image\/(?:png|jpeg|gif|webp);base64,/i;

/** Splits Markdown into its top-level blocks. */
export function blocksOf(markdown: string): Block[] {
  return marked.lexer(markdown).filter((token) => token.type !== "space" && token.type !== "def");
}

/** The DOM of one block. */
export function renderBlock(block: Block): DocumentFragment {
  const html = marked.parser([block]);
  const fragment = DOMPurify.sanitize(html, { ...POLICY, ALLOWED_TAGS: [...POLICY.ALLOWED_TAGS], ALLOWED_ATTR: [...POLICY.ALLOWED_ATTR] });
  for (const element of fragment.querySelectorAll("[class]")) if (element.localName !== "code") element.removeAttribute("class");
  for (const image of fragment.querySelectorAll("img")) replaceImage(image);
  for (const link of fragment.querySelectorAll("a")) secureLink(link);
  for (const input of fragment.querySelectorAll("input")) replaceCheckbox(input);
  for (const pre of fragment.querySelectorAll("pre")) frameCode(pre);
  for (const table of fragment.querySelectorAll("table")) makeScrollable(table);
  return fragment;
}

/** The URL if a link may go there (http, https or mailto, absolute). */
function outward(address: string | null): URL | null {
  try {
    const url = new URL(address ?? "");
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

function secureLink(link: HTMLAnchorElement): void {
  const url = outward(link.getAttribute("href"));
  if (!url) {
    link.replaceWith(...link.childNodes);
    return;
  }
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  link.title = url.href;
}

/** A remote image becomes a link, since loading it would tell its server that it was seen. A data: image is shown. */
function replaceImage(image: HTMLImageElement): void {
  const source = image.getAttribute("src") ?? "";
  if (INLINE_IMAGE.test(source)) return;
  const url = outward(source);
  const label = `Image: ${image.alt || (url ? url.hostname : "not shown")}`;
  if (!url || image.closest("a")) {
    image.replaceWith(label);
    return;
  }
  const link = document.createElement("a");
  link.href = url.href;
  link.textContent = label;
  image.replaceWith(link);
}

function replaceCheckbox(input: HTMLInputElement): void {
  input.replaceWith(input.type === "checkbox" ? (input.hasAttribute("checked") ? "☑" : "☐") : "");
}

/** Gives a code block a header with its language and a copy button, and highlights it. */
function frameCode(pre: HTMLPreElement): void {
  const code = pre.querySelector("code") ?? pre;
  const language = /(?:^|\s)language-([\w+#.-]+)/.exec(code.className)?.[1] ?? "";
  code.removeAttribute("class");
  const frame = document.createElement("div");
  frame.className = "code-block";
  const head = document.createElement("div");
  head.className = "code-head";
  const name = document.createElement("span");
  name.textContent = language || "text";
  const copy = document.createElement("button");
  copy.type = "button";
  copy.className = "code-copy";
  copy.textContent = "Copy";
  copy.setAttribute("aria-label", language ? `Copy ${language} code` : "Copy code");
  head.append(name, copy);
  pre.replaceWith(frame);
  frame.append(head, pre);
  pre.tabIndex = 0;
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", language ? `${language} code` : "Code");
  if (language) colour(code, language.toLowerCase());
}

function makeScrollable(table: HTMLTableElement): void {
  const frame = document.createElement("div");
  frame.className = "table-frame";
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", "Table");
  table.replaceWith(frame);
  frame.append(table);
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
