// Records for tests.

import type { Conversation, Message } from "./types";

let made = 0;

export function message(fields: Partial<Message>): Message {
  made++;
  return {
    id: `m${made}`,
    conversationId: "c1",
    parentId: null,
    role: "user",
    content: `text ${made}`,
    reasoning: "",
    createdAt: 1_700_000_000_000 + made,
    status: "done",
    finishReason: null,
    failure: null,
    timings: null,
    model: null,
    ...fields,
  };
}

export function conversation(fields: Partial<Conversation>): Conversation {
  return { id: "c1", title: "A title", createdAt: 1, updatedAt: 1, systemPrompt: null, sampling: {}, headId: null, deletedAt: null, ...fields };
}
