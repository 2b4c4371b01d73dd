// Runs before the first paint, so that a chosen theme does not flash the other one. Not a module for that reason.
try {
  const choice = localStorage.getItem("satchel.theme");
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
} catch {
  // Storage is blocked: the page follows the system.
}
