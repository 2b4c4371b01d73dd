// Starts the page.

import { render } from "preact";
import { App } from "./app";
import { keepBeforeLeaving, writing } from "./state/answers";
import { startConversations } from "./state/conversations";
import { followOtherTabs } from "./state/preferences";
import { checkServer } from "./state/server";
import "./styles/base.css";
import "./styles/layout.css";
import "./styles/messages.css";
import "./styles/markdown.css";

void checkServer();
followOtherTabs();
addEventListener("pagehide", keepBeforeLeaving);
const root = document.getElementById("app");
void startConversations((messageId) => writing.peek().has(messageId)).then(() => {
  if (root) render(<App />, root);
});
