import { expect, test } from "vitest";
import { Tabs, type TabEvent } from "./tabs";

test("a tab learns whether another is writing a message", async () => {
  const name = `tabs-${Math.random()}`;
  const writer = new Tabs((id) => id === "mine", name);
  const reader = new Tabs(() => false, name);
  expect(await reader.isBeingWritten("mine")).toBe(true);
  expect(await reader.isBeingWritten("nobody's")).toBe(false);
  expect(await writer.isBeingWritten("mine")).toBe(true);
  writer.close();
  reader.close();
});

test("tabs are told of each other's changes, not of their own", async () => {
  const name = `tabs-${Math.random()}`;
  const [one, two] = [new Tabs(() => false, name), new Tabs(() => false, name)];
  const heard: TabEvent[] = [];
  one.listen(() => expect.unreachable("a tab hears itself"));
  const arrived = new Promise<void>((resolve) => two.listen((event) => (heard.push(event), resolve())));
  one.post({ type: "conversation", id: "c" });
  await arrived;
  expect(heard).toEqual([{ type: "conversation", id: "c" }]);
  one.close();
  two.close();
});
