// How the page authenticates: with a session, which it gets for the launch secret in the link from the terminal
// (`#launch=SECRET`), or with an API key that the user typed. Either is stored in this browser, for this server's origin only.

const STORE = "satchel-access";
/** The credential when localStorage is blocked: lost when the page is closed. */
let held: string | null = null;

function credential(): string | null {
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
    // Storage is blocked or full: `held` serves until the page is closed.
  }
}

/** A request's headers, with the Authorization header if the page has a session or a key. */
export function withAccess(headers: Record<string, string> = {}): Record<string, string> {
  const secret = credential();
  return secret === null ? headers : { ...headers, authorization: `Bearer ${secret}` };
}

/** The launch secret in a URL fragment, if there is one. */
export function launchSecret(hash: string): string | null {
  return /^#launch=([0-9a-f]+)$/.exec(hash)?.[1] ?? null;
}

/** Exchanges the launch secret for a session. It leaves the URL first, so that neither the history nor a copied URL holds it. */
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
    // The server is gone; the request for its facts will report that.
  }
}
