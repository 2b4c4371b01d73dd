// What the open tabs of this page tell each other. Without BroadcastChannel a tab is alone, and nothing breaks:
// the database stays the only truth.

/** `list`: some conversation changed. `conversation`: this one did, or its messages. `asking`/`writing`: who writes a message now. */
export type TabEvent =
  | { type: "list" }
  | { type: "conversation"; id: string }
  | { type: "asking"; messageId: string }
  | { type: "writing"; messageId: string };

const ANSWER_WITHIN_MS = 400;

export class Tabs {
  private readonly channel: BroadcastChannel | null;
  private readonly listeners = new Set<(event: TabEvent) => void>();

  /** `writes(id)` says whether this tab writes that message now. */
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

  /** Whether a tab writes this message now: this one, or another that answers in time. */
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
