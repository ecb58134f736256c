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

// Shows which token this page's own response has brought, and counts until the copy of an older one is found out.
const token = document.getElementById("token");
const countdown = document.getElementById("countdown");

async function showToken() {
  const response = await fetch("/token");
  if (!response.ok) return;
  const held = await response.json();
  if (!held.now) return;
  token.textContent = held.now;
  document.getElementById("token-before").textContent = held.before;
  if (countdown && held.settles_in !== null) count(performance.now() + 1000 * held.settles_in);
}

function count(until) {
  const left = Math.max(0, Math.ceil((until - performance.now()) / 1000));
  countdown.textContent = `${left} s`;
  countdown.closest("ol").classList.add("counting");
  countdown.closest("ol").classList.toggle("settled", left === 0);
  if (left > 0) setTimeout(count, 250, until);
}

if (token) showToken();
