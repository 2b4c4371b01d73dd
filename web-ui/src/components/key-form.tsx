// Asks for an API key if the server requires one.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { useKey } from "../state/server";
import { Icon } from "./icons";

export function KeyForm(): JSX.Element {
  const [key, setKey] = useState("");
  const [tried, setTried] = useState(false);
  const submit = (event: Event): void => {
    event.preventDefault();
    // Text that a header cannot carry is no key, and fetch would throw on it.
    if (!/^[!-~]+$/.test(key.trim())) return setTried(true);
    void useKey(key).then(() => setTried(true));
  };
  return (
    <form class="banner" onSubmit={submit}>
      <Icon name="warning" />
      <p>
        <label for="api-key">
          <strong>{tried ? "The server does not know this key." : "This server needs a key."}</strong> Type one of its API keys, or open the link that it printed when it started.
        </label>
      </p>
      <input id="api-key" type="password" autoComplete="off" value={key} onInput={(event) => setKey(event.currentTarget.value)} />
      <button type="submit" class="plain">
        Use this key
      </button>
    </form>
  );
}
