import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const MODULES = fileURLToPath(new URL("node_modules", import.meta.url));

// Everything the page needs is in its own bundle. `base: "./"` keeps every URL relative, so that the page works under
// any path; nothing is inlined as data: or <style>, because the server's Content-Security-Policy forbids it.
export default defineConfig({
  base: "./",
  plugins: [licences()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    chunkSizeWarningLimit: 350,
  },
  server: {
    proxy: {
      "/api": "http://127.0.0.1:8090",
      "/v1": "http://127.0.0.1:8090",
    },
  },
  test: {
    include: ["src/**/*.test.ts"],
    setupFiles: ["src/store/node-18.ts"],
  },
});

/** Writes licences.txt: the licence texts of the libraries whose code is in the bundle. The build fails when one has none. */
function licences(): Plugin {
  return {
    name: "licences",
    generateBundle(_options, bundle) {
      const used = new Set<string>();
      for (const chunk of Object.values(bundle)) {
        for (const id of chunk.type === "chunk" ? chunk.moduleIds : []) {
          const name = /[\\/]node_modules[\\/]((?:@[^\\/]+[\\/])?[^\\/]+)/.exec(id)?.[1];
          if (name) used.add(name.replace("\\", "/"));
        }
      }
      const texts = [...used].sort().map((name) => {
        const folder = join(MODULES, name);
        const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { version: string };
        const file = readdirSync(folder).filter((one) => /^licen[cs]e/i.test(one)).sort()[0];
        if (!file) throw new Error(`${name} comes without a licence text`);
        return `${name} ${version}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
      });
      this.emitFile({ type: "asset", fileName: "licences.txt", source: `Libraries in Satchel's chat page\n\n${texts.join(`\n${"-".repeat(80)}\n\n`)}` });
    },
  };
}
