// Refreshes the list of events. Asks without cookies: with them, asking would itself restore a session.
const list = document.getElementById("events");

async function refresh() {
  if (document.visibilityState !== "visible") return;
  try {
    const response = await fetch("/events", { credentials: "omit" });
    if (!response.ok) return;
    const fragment = await response.text();
    if (fragment.trim() !== list.dataset.shown) {
      list.innerHTML = fragment;
      list.dataset.shown = fragment.trim();
    }
  } catch {
    // The demo was stopped; the next try tells whether it is back.
  }
}

setInterval(refresh, 1500);
refresh();
