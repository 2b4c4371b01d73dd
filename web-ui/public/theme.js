// Runs before the first paint, so that the other theme does not flash first; a module would run too late for that.
try {
  const choice = localStorage.getItem("satchel.theme");
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
} catch {
  // Storage is blocked: the page follows the system.
}
