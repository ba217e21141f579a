// Keeps the phone page up to date. It fetches the page every second and replaces the list items
// that are new or changed, so that open details and the focus stay as they are.
"use strict";

const INTERVAL = 1000;

function updateList(list, newList) {
  const oldItems = new Map([...list.children].map((item) => [item.dataset.key, item]));
  let position = list.firstElementChild;
  for (const item of [...newList.children]) {
    const old = oldItems.get(item.dataset.key);
    oldItems.delete(item.dataset.key);
    if (old && old.dataset.version === item.dataset.version) {
      if (old === position) position = position.nextElementSibling;
      else list.insertBefore(old, position);
      continue;
    }
    const isOpen = old?.querySelector("details")?.open;
    const hasFocus = old?.contains(document.activeElement);
    if (isOpen) item.querySelector("details").open = true;
    list.insertBefore(item, position);
    if (old) {
      if (old === position) position = position.nextElementSibling;
      old.remove();
      if (hasFocus) item.querySelector("button, summary")?.focus();
    }
  }
  for (const removed of oldItems.values()) removed.remove();
}

async function refresh() {
  const response = await fetch(location.href, { cache: "no-store" });
  const newPage = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const list of document.querySelectorAll("[data-live]")) {
    const newElement = newPage.getElementById(list.id);
    if (newElement) updateList(list, newElement);
  }
  // An idle gateway is folded. It opens with its first request or fault, and stays as it is left.
  for (const gateway of document.querySelectorAll("[data-fold]")) {
    const isActive = newPage.getElementById(gateway.id)?.open ?? false;
    if (isActive && gateway.dataset.fold !== "active") gateway.open = true;
    gateway.dataset.fold = isActive ? "active" : "idle";
  }
  for (const text of document.querySelectorAll("[data-text]")) {
    const newElement = newPage.getElementById(text.id);
    if (newElement && newElement.textContent !== text.textContent) {
      text.replaceChildren(...newElement.childNodes);
    }
  }
}

async function refreshRepeatedly() {
  try {
    if (!document.hidden) await refresh();
  } catch {
    // The simulator is stopped. Try again, because it may be started again.
  }
  setTimeout(refreshRepeatedly, INTERVAL);
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.matches("[data-no-reload]")) return;
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

for (const gateway of document.querySelectorAll("[data-fold][open]")) gateway.dataset.fold = "active";
setTimeout(refreshRepeatedly, INTERVAL);
