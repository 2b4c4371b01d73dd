// Conversations in IndexedDB. Every change is one transaction that reads what it depends on, so tabs that write at
// the same time cannot undo each other's work: a rename in one tab and an answer in another both stay.

import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import type { Conversation, Message } from "./types";

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation };
  messages: { key: string; value: Message; indexes: { conversation: string } };
}

/** The fields of a conversation that may change after it was created. */
export type ConversationChange = Partial<Omit<Conversation, "id" | "createdAt">>;
/** The fields of a message that may change after it was created. */
export type MessageChange = Partial<Omit<Message, "id" | "conversationId" | "parentId" | "role" | "createdAt">>;

/** The conversation was deleted, possibly in another tab. */
export class ConversationGone extends Error {
  constructor() {
    super("this conversation was deleted");
  }
}

export class Database {
  private constructor(private readonly db: IDBPDatabase<Schema>) {}

  /** Opens the database. `onClosed` is called when another tab upgrades it to a newer version, or the browser closes it. */
  static async open(onClosed: () => void, name = "satchel"): Promise<Database> {
    const db = await openDB<Schema>(name, 1, {
      upgrade(fresh) {
        fresh.createObjectStore("conversations", { keyPath: "id" });
        fresh.createObjectStore("messages", { keyPath: "id" }).createIndex("conversation", "conversationId");
      },
      blocking(_old, _new, event) {
        (event.target as IDBDatabase).close();
        onClosed();
      },
      terminated: onClosed,
    });
    return new Database(db);
  }

  close(): void {
    this.db.close();
  }

  /** Conversations that are not deleted, the most recently used first. */
  async conversations(): Promise<Conversation[]> {
    const all = await this.db.getAll("conversations");
    return all.filter((one) => one.deletedAt === null).sort((a, b) => b.updatedAt - a.updatedAt);
  }

  /** A conversation; null if it does not exist or is deleted. */
  async conversation(id: string): Promise<Conversation | null> {
    const found = await this.db.get("conversations", id);
    return found && found.deletedAt === null ? found : null;
  }

  async messages(conversationId: string): Promise<Map<string, Message>> {
    const list = await this.db.getAllFromIndex("messages", "conversation", conversationId);
    return new Map(list.map((message) => [message.id, message]));
  }

  /** Adds whole conversations, all or none. */
  async addConversations(entries: { conversation: Conversation; messages: Message[] }[]): Promise<void> {
    const work = this.db.transaction(["conversations", "messages"], "readwrite");
    for (const { conversation, messages } of entries) {
      void work.objectStore("conversations").add(conversation);
      for (const message of messages) void work.objectStore("messages").add(message);
    }
    await work.done;
  }

  /** Changes a conversation; false when it is gone. */
  async changeConversation(id: string, change: ConversationChange): Promise<boolean> {
    const work = this.db.transaction("conversations", "readwrite");
    const found = await work.store.get(id);
    if (found) await work.store.put({ ...found, ...change });
    await work.done;
    return found !== undefined;
  }

  /** Adds a message and makes it the head. Throws ConversationGone when its conversation does not exist or is deleted. */
  async addMessage(message: Message): Promise<void> {
    const work = this.db.transaction(["conversations", "messages"], "readwrite");
    const conversation = await work.objectStore("conversations").get(message.conversationId);
    if (!conversation || conversation.deletedAt !== null) {
      await work.done;
      throw new ConversationGone();
    }
    await work.objectStore("messages").add(message);
    await work.objectStore("conversations").put({ ...conversation, headId: message.id, updatedAt: message.createdAt });
    await work.done;
  }

  /** Changes a message; false when it is gone. */
  async changeMessage(id: string, change: MessageChange): Promise<boolean> {
    const work = this.db.transaction("messages", "readwrite");
    const found = await work.store.get(id);
    if (found) await work.store.put({ ...found, ...change });
    await work.done;
    return found !== undefined;
  }

  /** Removes a message that has no children; the head moves to its parent. */
  async removeLeaf(id: string): Promise<void> {
    const work = this.db.transaction(["conversations", "messages"], "readwrite");
    const messages = work.objectStore("messages");
    const found = await messages.get(id);
    if (found) {
      const siblings = await messages.index("conversation").getAll(found.conversationId);
      if (!siblings.some((other) => other.parentId === id)) {
        await messages.delete(id);
        const conversation = await work.objectStore("conversations").get(found.conversationId);
        if (conversation?.headId === id) {
          await work.objectStore("conversations").put({ ...conversation, headId: found.parentId });
        }
      }
    }
    await work.done;
  }

  /** Permanently removes the conversations that were deleted before `time`. */
  async purge(time: number): Promise<void> {
    const work = this.db.transaction(["conversations", "messages"], "readwrite");
    const messages = work.objectStore("messages");
    for (const conversation of await work.objectStore("conversations").getAll()) {
      if (conversation.deletedAt === null || conversation.deletedAt >= time) continue;
      await work.objectStore("conversations").delete(conversation.id);
      for (const key of await messages.index("conversation").getAllKeys(conversation.id)) await messages.delete(key);
    }
    await work.done;
  }

  /** The conversations with a message that contains `text`, ignoring case. */
  async conversationsWith(text: string): Promise<Set<string>> {
    const wanted = text.toLocaleLowerCase();
    const found = new Set<string>();
    for (let cursor = await this.db.transaction("messages").store.openCursor(); cursor; cursor = await cursor.continue()) {
      const { conversationId, content } = cursor.value;
      if (!found.has(conversationId) && content.toLocaleLowerCase().includes(wanted)) found.add(conversationId);
    }
    return found;
  }
}
