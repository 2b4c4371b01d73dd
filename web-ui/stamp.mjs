// Runs after `npm ci`: leaves a copy of the lock file inside node_modules. runtime/build.rs compares the two,
// and installs again only when they differ.
import { copyFileSync, existsSync } from "node:fs";

if (existsSync("package-lock.json")) copyFileSync("package-lock.json", "node_modules/.installed-lock.json");
