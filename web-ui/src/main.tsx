// Starts the page.

import { render } from "preact";
import { openSession } from "./api/access";
import { App } from "./app";
import { keepBeforeLeaving, writing } from "./state/answers";
import { startConversations } from "./state/conversations";
import { followOtherTabs } from "./state/preferences";
import { checkServer } from "./state/server";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/messages.css";
import "./styles/markdown.css";

const launch = (): void => void openSession().then(checkServer);
launch();
// The link from the terminal may be opened in a tab that already shows the page.
addEventListener("hashchange", () => location.hash.startsWith("#launch=") && launch());
followOtherTabs();
addEventListener("pagehide", keepBeforeLeaving);
const root = document.getElementById("app");
void startConversations((messageId) => writing.peek().has(messageId)).then(() => {
  if (root) render(<App />, root);
});
