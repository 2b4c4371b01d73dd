import { defineConfig } from "vitest/config";

// Everything the page needs is in its own bundle. `base: "./"` keeps every address relative, so that the page works
// under any path; nothing is inlined as data: or <style>, because the server's Content-Security-Policy forbids it.
export default defineConfig({
  base: "./",
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
    environment: "node",
  },
});
