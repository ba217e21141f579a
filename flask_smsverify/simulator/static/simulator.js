// Keeps the phone page live. The page itself is the source: it is fetched again every second, and
// what is new or changed in its keyed lists is moved into place, so nothing that is open closes.
"use strict";

const EVERY = 1000;

function adopt(list, fresh) {
  const known = new Map([...list.children].map((item) => [item.dataset.key, item]));
  let place = list.firstElementChild;
  for (const item of [...fresh.children]) {
    const old = known.get(item.dataset.key);
    known.delete(item.dataset.key);
    if (old && old.dataset.version === item.dataset.version) {
      if (old === place) place = place.nextElementSibling;
      else list.insertBefore(old, place);
      continue;
    }
    const open = old?.querySelector("details")?.open;
    const focused = old?.contains(document.activeElement);
    if (open) item.querySelector("details").open = true;
    list.insertBefore(item, place);
    if (old) {
      if (old === place) place = place.nextElementSibling;
      old.remove();
      if (focused) item.querySelector("button, summary")?.focus();
    }
  }
  for (const gone of known.values()) gone.remove();
}

async function refresh() {
  const answer = await fetch(location.href, { cache: "no-store" });
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const list of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(list.id);
    if (other) adopt(list, other);
  }
  for (const text of document.querySelectorAll("[data-text]")) {
    const other = fresh.getElementById(text.id);
    if (other && other.textContent !== text.textContent) text.replaceChildren(...other.childNodes);
  }
}

async function keepFresh() {
  try {
    if (!document.hidden) await refresh();
  } catch {
    // The simulator was stopped; it may be started again.
  }
  setTimeout(keepFresh, EVERY);
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-quiet]")) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  await fetch(form.action, { method: "POST", body });
  await refresh();
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button || !navigator.clipboard) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  button.textContent = document.body.dataset.copied;
  setTimeout(() => { button.textContent = button.dataset.copy; }, 1200);
});

document.addEventListener("toggle", (event) => {
  const script = event.target.querySelector?.("[data-script]");
  if (!script || !("speechSynthesis" in window)) return;
  speechSynthesis.cancel();
  if (!event.target.open) return;
  const voice = new SpeechSynthesisUtterance(script.textContent);
  voice.lang = "fa-IR";
  voice.rate = 0.8;
  speechSynthesis.speak(voice);
}, true);

setTimeout(keepFresh, EVERY);
