// The stored records: conversations, and the messages in them.
//
// The one idea to know: messages form a tree. Editing or regenerating never overwrites, it adds a sibling; the page
// shows the path from the root to the conversation's head. So two tabs that write at once make two branches, and
// neither loses anything.

export type Role = "user" | "assistant";

/**
 * `streaming`: being written by some tab. `stopped`: by the user. `interrupted`: its tab was closed or reloaded meanwhile.
 * `failed`: the server or the connection ended it; `failure` says how.
 */
export type MessageStatus = "streaming" | "done" | "stopped" | "interrupted" | "failed";

/** What the server measured for one answer; rates in tokens per second. */
export interface Timings {
  prompt_tokens: number;
  cached_tokens: number;
  prompt_ms: number;
  prompt_per_second: number;
  generated_tokens: number;
  generated_ms: number;
  generated_per_second: number;
  context_used: number;
  context_length: number;
}

/** Why an answer failed, as a message for the user. */
export interface Failure {
  title: string;
  detail: string;
}

export interface Message {
  id: string;
  conversationId: string;
  /** The message it follows; null for the first of a conversation. */
  parentId: string | null;
  role: Role;
  content: string;
  /** The model's reasoning before the answer, if the server sends it separately. */
  reasoning: string;
  createdAt: number;
  status: MessageStatus;
  finishReason: string | null;
  failure: Failure | null;
  timings: Timings | null;
  /** The model that answered. */
  model: string | null;
}

/** Sampling settings that differ from the defaults; a missing key means the default. */
export interface Sampling {
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  repeat_penalty?: number;
  max_tokens?: number;
  seed?: number;
}

export interface Conversation {
  id: string;
  title: string;
  createdAt: number;
  updatedAt: number;
  /** null: the server's default. */
  systemPrompt: string | null;
  sampling: Sampling;
  /** The last message of the branch that is shown; null before the first message. */
  headId: string | null;
  /** When it was deleted (kept for a while, for the undo). */
  deletedAt: number | null;
}
