// For development and for trying the page without a model: serves dist/ with the real server's
// Content-Security-Policy, and answers with canned Markdown. It is not part of the executable.
//
//   node dev/mock-server.mjs [PORT [DIRECTORY]]      (8090, dist)
//
// A message that starts with one of these words gets: "slow" an answer of 60 s, "length" one cut by its limit,
// "full" one that fills the context, "toolong" the error for a prompt that does not fit, "break" a broken stream,
// "busy" status 503, "think" a <think> block, "evil" markup that must be neutralised.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const port = Number(process.argv[2] ?? 8090);
const root = process.argv[3] ?? fileURLToPath(new URL("../dist", import.meta.url));
const CONTEXT = 2048;
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; " +
  "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json" };

const FACTS = {
  name: "SmolLM2-135M-Instruct",
  architecture: "llama",
  parameters: 134_515_008,
  context_length: CONTEXT,
  isa: "avx2",
  threads: 2,
  version: "0.1.0",
  defaults: { system_prompt: "You are a helpful AI assistant named SmolLM, trained by Hugging Face", temperature: 0.7, top_p: 0.95, top_k: 40, min_p: 0.05, repeat_penalty: 1, max_tokens: null },
  sampling: [{ name: "temperature", min: 0, max: 100, help: "0: always the most likely token; higher: more varied" }],
};

const ANSWER = `A rainbow forms when **sunlight** meets water drops. Each drop does three things:

1. It *bends* the light on its way in,
2. reflects it at its back,
3. and bends it again on its way out.

Every colour bends a little differently, so white light fans out. The angle is about \`42°\` for red and \`40°\` for violet.

## In numbers

| Colour | Wavelength | Angle |
| :--- | ---: | ---: |
| Red | 700 nm | 42.4° |
| Green | 530 nm | 41.5° |
| Violet | 400 nm | 40.5° |

\`\`\`python
import math

def rainbow_angle(n: float) -> float:
    """The angle of the bow for a refractive index, in degrees."""
    incidence = math.acos(math.sqrt((n * n - 1) / 3))  # least deviation
    refraction = math.asin(math.sin(incidence) / n)
    return math.degrees(4 * refraction - 2 * incidence)

print(f"{rainbow_angle(1.331):.1f}°")  # red
\`\`\`

> Stand with the sun behind you: the bow is always opposite the sun.

More in [an encyclopedia](https://example.org/rainbow), with ![a double rainbow](https://example.org/bow.jpg).
`;

const EVIL = `<script>window.evil = 1</script><img src=x onerror="window.evil = 2"> <iframe src="https://example.org"></iframe>

[click](javascript:window.evil=3) <a href="https://example.org" onclick="window.evil=4">raw</a> ![pixel](https://example.org/pixel.png)

<style>body { display: none }</style><svg onload="window.evil=5"></svg> <form action="/v1"><input name="x"></form>
`;

createServer((request, response) => {
  response.setHeader("content-security-policy", CSP);
  const path = new URL(request.url ?? "/", "http://localhost").pathname;
  if (path === "/api/facts") return json(response, 200, FACTS);
  if (path === "/v1/chat/completions" && request.method === "POST") return void chat(request, response);
  return void file(path, response);
}).listen(port, "127.0.0.1", () => console.log(`mock server on http://127.0.0.1:${port}/`));

async function file(path, response) {
  const name = normalize(path === "/" ? "/index.html" : path);
  try {
    const bytes = await readFile(join(root, name));
    response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream" }).end(bytes);
  } catch {
    json(response, 404, { error: { message: "no such file", type: "invalid_request_error", code: null, param: null } });
  }
}

async function chat(request, response) {
  let body = "";
  for await (const piece of request) body += piece;
  const { messages, max_tokens: limit } = JSON.parse(body);
  const asked = messages.at(-1).content;
  const kind = /^\w+/.exec(asked)?.[0].toLowerCase();
  if (kind === "toolong") {
    return json(response, 400, { error: { message: "the prompt has 3141 tokens, but the model's context holds 2048", type: "invalid_request_error", code: "context_length_exceeded", param: "messages" } });
  }
  if (kind === "busy") return json(response, 503, { error: { message: "8 requests are waiting already", type: "server_error", code: "overloaded", param: null } });

  const text = kind === "think" ? `<think>\nThe user wants a rainbow. Water drops bend light.\n</think>\n\n${ANSWER}` : kind === "evil" ? EVIL : kind === "slow" ? ANSWER.repeat(8) : ANSWER;
  const all = text.match(/\s*\S{1,5}/g) ?? [];
  const pieces = all.slice(0, Math.min(limit ?? Infinity, kind === "length" ? 20 : Infinity));
  response.writeHead(200, { "content-type": "text/event-stream" });
  const send = (data) => response.write(`data: ${JSON.stringify(data)}\n\n`);
  const chunk = (delta, finish_reason = null) => ({ id: "chatcmpl-0", object: "chat.completion.chunk", created: 0, model: FACTS.name, choices: [{ index: 0, delta, finish_reason }] });
  const started = performance.now();
  await pause(150);
  send(chunk({ role: "assistant", content: "" }));
  for (const [index, piece] of pieces.entries()) {
    if (response.destroyed) return;
    if (kind === "break" && index === 12) return void response.destroy();
    send(chunk({ content: piece }));
    await pause(kind === "slow" ? 30 : 8);
  }
  send(chunk({}, pieces.length < all.length || kind === "full" ? "length" : "stop"));
  const prompt = Math.ceil(JSON.stringify(messages).length / 4);
  const elapsed = performance.now() - started - 150;
  const timings = {
    prompt_tokens: prompt, cached_tokens: Math.floor(prompt / 2), prompt_ms: 150, prompt_per_second: prompt / 0.15,
    generated_tokens: pieces.length, generated_ms: elapsed, generated_per_second: (pieces.length / elapsed) * 1000,
    context_used: kind === "full" ? CONTEXT : Math.min(CONTEXT, prompt + pieces.length), context_length: CONTEXT,
  };
  send({ id: "chatcmpl-0", object: "chat.completion.chunk", created: 0, model: FACTS.name, choices: [], usage: { prompt_tokens: prompt, completion_tokens: pieces.length, total_tokens: prompt + pieces.length }, timings });
  response.end("data: [DONE]\n\n");
}

function json(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
