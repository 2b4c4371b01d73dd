// Starts a packed program as its recipient would, except for a port that is certainly free.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** Starts `program` and waits until it prints its page's address. `stop` sends SIGTERM and returns the exit status. */
export async function startServer(program, flags = []) {
  const child = spawn(program, ["serve", "--no-browser", "--port", "0", ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  let address;
  for await (const line of createInterface({ input: child.stdout })) {
    address ??= /^\s+chat\s+(http:\S+)$/.exec(line)?.[1];
    if (line.includes("Ctrl-C")) break;
  }
  if (!address) throw new Error(`${program} did not say where its page is`);
  const stop = async () => {
    child.kill("SIGTERM");
    const [status] = await exited;
    return status;
  };
  return { address, stop };
}
