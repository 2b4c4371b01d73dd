import { expect, test } from "vitest";
import { SAMPLING_FIELDS, readField } from "./sampling-fields";

const field = (key: string) => SAMPLING_FIELDS.find((one) => one.key === key) ?? expect.unreachable(key);

test("what is typed is a number in range, empty for the default, or a problem", () => {
  expect(readField(field("temperature"), " 0.5 ")).toEqual({ value: 0.5 });
  expect(readField(field("temperature"), "0,5")).toEqual({ value: 0.5 });
  expect(readField(field("temperature"), "")).toEqual({});
  expect(readField(field("temperature"), "warm")).toHaveProperty("problem");
  expect(readField(field("temperature"), "3")).toEqual({ problem: "Temperature is between 0 and 2" });
  expect(readField(field("top_k"), "1.5")).toEqual({ problem: "Top K is a whole number" });
  expect(readField(field("seed"), "4294967295")).toEqual({ value: 4294967295 });
  expect(readField(field("max_tokens"), "0")).toHaveProperty("problem");
});
