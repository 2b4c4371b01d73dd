import { expect, test } from "vitest";
import { SAMPLING_FIELDS, readField } from "./sampling-fields";

const limits = { min: 0, max: 100, help: "" };
const field = (key: string) => SAMPLING_FIELDS.find((one) => one.key === key) ?? expect.unreachable(key);

test("a field is empty for the default, a number in range, or a problem", () => {
  expect(readField(field("temperature"), " 0.5 ", limits)).toEqual({ value: 0.5 });
  expect(readField(field("temperature"), "0,5", limits)).toEqual({ value: 0.5 });
  expect(readField(field("temperature"), "", limits)).toEqual({});
  expect(readField(field("temperature"), "warm", limits)).toHaveProperty("problem");
  expect(readField(field("temperature"), "3", limits)).toEqual({ value: 3 });
  expect(readField(field("temperature"), "101", limits)).toEqual({ problem: "Temperature is 100 or less" });
  expect(readField(field("temperature"), "-1", limits)).toEqual({ problem: "Temperature is 0 or more" });
  expect(readField(field("top_k"), "1.5", limits)).toEqual({ problem: "Top K is a whole number" });
  expect(readField(field("seed"), "4294967295", undefined)).toEqual({ value: 4294967295 });
  expect(readField(field("seed"), "99999999999999999999", undefined)).toHaveProperty("problem");
  expect(readField(field("max_tokens"), "0", { ...limits, min: 1 })).toHaveProperty("problem");
});
