import { expect, test } from "vitest";
import { keepAccess, launchSecret, withAccess } from "./access";

test("a link's secret is found in the address and nothing else is taken for one", () => {
  expect(launchSecret("#launch=0123abcd")).toBe("0123abcd");
  for (const hash of ["", "#launch=", "#/c/0123", "#launch=0123&x", "#launch=<b>"]) expect(launchSecret(hash)).toBeNull();
});

test("what is kept goes with every request", () => {
  expect(withAccess({ a: "b" })).toEqual({ a: "b" });
  keepAccess("secret");
  expect(withAccess({ a: "b" })).toEqual({ a: "b", authorization: "Bearer secret" });
});
