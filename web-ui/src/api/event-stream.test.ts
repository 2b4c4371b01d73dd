import { expect, test } from "vitest";
import { EventStreamParser } from "./event-stream";

const TEXT = ': comment\r\ndata: {"a":"é😀"}\r\n\r\nevent: x\rdata: one\rdata:two\r\rdata: three\n\ndata\n\ndata: [DONE]\n\n';
const EVENTS = ['{"a":"é😀"}', "one\ntwo", "three", "", "[DONE]"];

function parse(pieces: Uint8Array[]): string[] {
  const parser = new EventStreamParser();
  return pieces.flatMap((piece) => parser.push(piece));
}

test("a stream in one piece", () => {
  expect(parse([new TextEncoder().encode(TEXT)])).toEqual(EVENTS);
});

test("a stream cut at every byte, in two and in single bytes", () => {
  const bytes = new TextEncoder().encode(TEXT);
  for (let at = 0; at <= bytes.length; at++) expect(parse([bytes.slice(0, at), bytes.slice(at)]), `cut at ${at}`).toEqual(EVENTS);
  expect(parse(Array.from(bytes, (byte) => new Uint8Array([byte])))).toEqual(EVENTS);
});

test("an event is delivered only once it is complete", () => {
  const parser = new EventStreamParser();
  const push = (text: string): string[] => parser.push(new TextEncoder().encode(text));
  expect(push("data: a")).toEqual([]);
  expect(push("b\n")).toEqual([]);
  expect(push("\n")).toEqual(["ab"]);
  expect(push("\n\n\n")).toEqual([]);
});
