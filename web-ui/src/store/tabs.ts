// Messages between the open tabs of this page. Without BroadcastChannel a tab just does not hear of the others' changes:
// the database is the single source of truth.

/**
 * `list`: some conversation changed. `conversation`: this one or its messages did. `asking`: is a tab writing this message?
 * `writing`: the reply of the tab that is.
 */
export type TabEvent =
  | { type: "list" }
  | { type: "conversation"; id: string }
  | { type: "asking"; messageId: string }
  | { type: "writing"; messageId: string };

const ANSWER_WITHIN_MS = 400;

export class Tabs {
  private readonly channel: BroadcastChannel | null;
  private readonly listeners = new Set<(event: TabEvent) => void>();

  /** `writes(id)` tells whether this tab is writing that message. */
  constructor(private readonly writes: (messageId: string) => boolean, name = "satchel") {
    this.channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(name);
    this.channel?.addEventListener("message", (event: MessageEvent<TabEvent>) => this.receive(event.data));
  }

  post(event: TabEvent): void {
    this.channel?.postMessage(event);
  }

  listen(listener: (event: TabEvent) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Whether a tab is writing this message: this one, or another that replies in time. */
  async isBeingWritten(messageId: string): Promise<boolean> {
    if (this.writes(messageId)) return true;
    if (!this.channel) return false;
    return new Promise((resolve) => {
      const stop = this.listen((event) => {
        if (event.type === "writing" && event.messageId === messageId) finish(true);
      });
      const timer = setTimeout(() => finish(false), ANSWER_WITHIN_MS);
      const finish = (result: boolean): void => {
        clearTimeout(timer);
        stop();
        resolve(result);
      };
      this.post({ type: "asking", messageId });
    });
  }

  close(): void {
    this.channel?.close();
  }

  private receive(event: TabEvent): void {
    if (event.type === "asking" && this.writes(event.messageId)) this.post({ type: "writing", messageId: event.messageId });
    for (const listener of this.listeners) listener(event);
  }
}
