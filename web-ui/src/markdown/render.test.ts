// @vitest-environment jsdom
import { describe, expect, test } from "vitest";
import { plainText } from "./plain";
import { blocksOf, renderBlock } from "./render";
import { divideThinking } from "./thinking";

function render(markdown: string): HTMLElement {
  const place = document.createElement("div");
  for (const block of blocksOf(markdown)) place.append(renderBlock(block));
  return place;
}

const ATTACKS = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg onload=alert(1)><animate onbegin=alert(1) attributeName=x></svg>",
  "<iframe src='javascript:alert(1)'></iframe>",
  "<a href='https://example.org' onclick='alert(1)' style='position:fixed'>x</a>",
  "<b onmouseover=alert(1)>x</b>",
  "[x](javascript:alert(1))",
  "[x](JaVaScRiPt:alert(1))",
  "[x](java&#x73;cript:alert(1))",
  "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
  "[x](vbscript:msgbox(1))",
  "![x](javascript:alert(1))",
  '![x](https://example.org/"onerror="alert(1))',
  "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
  "<style>*{display:none}</style>",
  "<form action=/v1><input name=password><button>Send</button></form>",
  "<base href='https://example.org'><link rel=stylesheet href='https://example.org/x.css'><meta http-equiv=refresh content='0;url=https://example.org'>",
  "<object data='https://example.org'></object><embed src='https://example.org'>",
  '```html" onmouseover="alert(1)\nx\n```',
  "```<img src=x onerror=alert(1)>\nx\n```",
  "| <img src=x onerror=alert(1)> |\n|---|\n| <script>alert(1)</script> |",
  "<div id=app class=composer data-x=1 aria-label=y>x</div>",
  "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
  "<x <b>*<img/src/onerror=alert(1)>*",
];

const HARMLESS = new Set("a b blockquote br button code del div em h3 h4 h5 h6 hr i kbd li mark ol p pre s small span strong sub sup table tbody td th thead tr u ul".split(" "));
const ATTRIBUTES = new Set("href target rel title align start class tabindex role aria-label type".split(" "));

describe("an answer runs no script, loads nothing and navigates nowhere by itself", () => {
  test.each(ATTACKS)("%s", (attack) => {
    for (const text of [attack, `text ${attack} text`, `- ${attack}`, `> ${attack}`]) {
      const place = render(text);
      for (const element of place.querySelectorAll("*")) {
        expect(HARMLESS, element.outerHTML).toContain(element.localName);
        for (const attribute of element.attributes) expect(ATTRIBUTES, element.outerHTML).toContain(attribute.name);
        if (element instanceof HTMLAnchorElement) {
          expect(["http:", "https:", "mailto:"]).toContain(new URL(element.getAttribute("href") ?? "").protocol);
          expect(element.rel).toBe("noopener noreferrer");
          expect(element.target).toBe("_blank");
        }
        if (element.localName === "button") expect(element.className).toBe("code-copy");
      }
    }
  });
});

test("raw HTML is shown as it was written", () => {
  expect(render("Use the <div> and </section> tags").textContent).toContain("Use the <div> and </section> tags");
  expect(render("H<sub>2</sub>O<br>x").querySelectorAll("sub, br")).toHaveLength(2);
});

test("images become links, unless they are data: URLs", () => {
  const link = render("![a bow](https://example.org/bow.png)").querySelector("a");
  expect(link?.textContent).toBe("Image: a bow");
  expect(link?.href).toBe("https://example.org/bow.png");
  const png = "data:image/png;base64,iVBORw0KGgo=";
  expect(render(`![dot](${png})`).querySelector("img")?.src).toBe(png);
  expect(render("![x](data:image/svg+xml;base64,PHN2Zz4=)").querySelector("img")).toBeNull();
  expect(render("![x](/v1/models)").innerHTML).not.toContain("/v1/models");
  expect(render("[![x](https://example.org/i.png)](https://example.org/)").querySelectorAll("a")).toHaveLength(1);
});

test("links that would stay on this origin become text", () => {
  expect(render("[a](/v1/models) [b](#/c/1) [c](?x)").querySelector("a")).toBeNull();
});

test("code blocks show their language and a copy button", () => {
  const place = render("```rust\nfn main() {}\n```");
  expect(place.querySelector(".code-head span")?.textContent).toBe("rust");
  expect(place.querySelector("button")?.getAttribute("aria-label")).toBe("Copy rust code");
  expect(place.querySelector("pre")?.textContent).toBe("fn main() {}\n");
  expect(render("```\n<b>&amp;\n```").querySelector("pre")?.textContent).toBe("<b>&amp;\n");
  expect(render("1. x\n\n   ```js\n   1\n   ```").querySelectorAll(".code-block")).toHaveLength(1);
});

test("an unfinished answer is rendered", () => {
  expect(render("```py\nprint(1)").querySelector("pre")?.textContent).toContain("print(1)");
  expect(render("| a | b |\n|---|---|\n| 1").querySelectorAll("td")).toHaveLength(2);
  expect(render("**bold").textContent).toContain("**bold");
});

test("while an answer grows, only its last block changes", () => {
  const short = blocksOf("one\n\ntwo\n\nthr").map((block) => block.raw);
  const long = blocksOf("one\n\ntwo\n\nthree\n\nfour").map((block) => block.raw);
  expect(long[0]).toBe(short[0]);
  expect(long[1]).toBe(short[1]);
});

test("task lists show their state, headings start below the page's own", () => {
  expect(render("- [x] a\n- [ ] b").textContent).toMatch(/☑ a\s+☐ b/);
  expect(render("# a").querySelector("h3")?.textContent).toBe("a");
});

test("reasoning is separated from the answer", () => {
  expect(divideThinking("<think>\na\n</think>\n\nb", "")).toEqual({ thinking: "a", answer: "b", open: false });
  expect(divideThinking("<think>a", "")).toEqual({ thinking: "a", answer: "", open: true });
  expect(divideThinking("b <think>", "")).toEqual({ thinking: "", answer: "b <think>", open: false });
  expect(divideThinking("b", "a")).toEqual({ thinking: "a", answer: "b", open: false });
});

test("plain text has no Markdown marks", () => {
  expect(plainText("# A\n\n- **b** [c](https://example.org)\n\n```js\nd\n```")).toBe("A b c d");
});
