// What this page shows the server to be known: a session, for which it exchanges the secret of the link from the terminal
// (`#launch=SECRET`), or an API key that the person typed. Either is kept in this browser, for this server's origin only.

const STORE = "satchel-access";
/** Where the browser keeps nothing, it holds until the page is closed. */
let held: string | null = null;

function shown(): string | null {
  try {
    return held ?? localStorage.getItem(STORE);
  } catch {
    return held;
  }
}

/** Keeps a session or a key. */
export function keepAccess(secret: string): void {
  held = secret;
  try {
    localStorage.setItem(STORE, secret);
  } catch {
    // It is held.
  }
}

/** The headers of a request, with what makes this page known. */
export function withAccess(headers: Record<string, string> = {}): Record<string, string> {
  const secret = shown();
  return secret === null ? headers : { ...headers, authorization: `Bearer ${secret}` };
}

/** The secret in an address, if it has one. */
export function launchSecret(hash: string): string | null {
  return /^#launch=([0-9a-f]+)$/.exec(hash)?.[1] ?? null;
}

/** Takes a link's secret out of the address, so that no history and no copied address holds it, and opens a session. */
export async function openSession(): Promise<void> {
  const launch = launchSecret(location.hash);
  if (launch === null) return;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    const response = await fetch(new URL("api/session", document.baseURI), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ launch }),
    });
    const { session } = (await response.json()) as { session?: unknown };
    if (response.ok && typeof session === "string") keepAccess(session);
  } catch {
    // The server is gone; asking it for its facts says so.
  }
}
