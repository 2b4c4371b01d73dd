// Reasoning models write their reasoning between <think> and </think>, before the answer itself.

export interface Parts {
  thinking: string;
  answer: string;
  /** The thinking has not ended yet. */
  open: boolean;
}

/** Splits an answer's text into reasoning and answer; the server may also send the reasoning separately, as `reasoning`. */
export function divideThinking(content: string, reasoning: string): Parts {
  const match = /^\s*<think>([\s\S]*?)(<\/think>|$)/.exec(content);
  if (!match) return { thinking: reasoning.trim(), answer: content, open: reasoning !== "" && content === "" };
  const thinking = [reasoning.trim(), (match[1] ?? "").trim()].filter((part) => part !== "").join("\n\n");
  return { thinking, answer: content.slice(match[0].length).trimStart(), open: match[2] === "" };
}
