// For the tests: Node 18 has the browser's `crypto`, but not yet as a global.

import { webcrypto } from "node:crypto";

if (!("crypto" in globalThis)) Object.defineProperty(globalThis, "crypto", { value: webcrypto });
