import { expect, test } from "vitest";
import { keepAccess, launchSecret, withAccess } from "./access";

test("only a launch secret is read from the URL fragment", () => {
  expect(launchSecret("#launch=0123abcd")).toBe("0123abcd");
  for (const hash of ["", "#launch=", "#/c/0123", "#launch=0123&x", "#launch=<b>"]) expect(launchSecret(hash)).toBeNull();
});

test("a kept key is sent with every request", () => {
  expect(withAccess({ a: "b" })).toEqual({ a: "b" });
  keepAccess("secret");
  expect(withAccess({ a: "b" })).toEqual({ a: "b", authorization: "Bearer secret" });
});
