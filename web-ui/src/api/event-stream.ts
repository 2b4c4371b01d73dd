// text/event-stream, cut anywhere by the network: inside a line, between \r and \n, inside a UTF-8 sequence.
// Follows the parsing rules of the HTML standard, section "Server-sent events"; only `data` matters to this page.

export class EventStreamParser {
  private readonly decoder = new TextDecoder();
  private line = "";
  private data: string[] = [];
  private afterCarriageReturn = false;

  /** The data of each event that these bytes complete. */
  push(bytes: Uint8Array): string[] {
    return this.take(this.decoder.decode(bytes, { stream: true }));
  }

  private take(text: string): string[] {
    const events: string[] = [];
    let start = 0;
    if (this.afterCarriageReturn && text.length > 0) {
      if (text[0] === "\n") start = 1;
      this.afterCarriageReturn = false;
    }
    for (let at = start; at < text.length; at++) {
      const character = text[at];
      if (character !== "\n" && character !== "\r") continue;
      const event = this.endLine(this.line + text.slice(start, at));
      if (event !== null) events.push(event);
      this.line = "";
      if (character === "\r") {
        if (at + 1 === text.length) this.afterCarriageReturn = true;
        else if (text[at + 1] === "\n") at++;
      }
      start = at + 1;
    }
    this.line += text.slice(start);
    return events;
  }

  private endLine(line: string): string | null {
    if (line === "") {
      if (this.data.length === 0) return null;
      const event = this.data.join("\n");
      this.data = [];
      return event;
    }
    if (line === "data") this.data.push("");
    else if (line.startsWith("data:")) this.data.push(line.slice(line[5] === " " ? 6 : 5));
    return null;
  }
}
