import { render } from "preact";
import "./styles/base.css";

const root = document.getElementById("app");
if (root) render(<h1>Satchel</h1>, root);
