/* Conveniences of the staff pages. Every page works without this file. */
"use strict";
(() => {
  const error = document.querySelector("[data-sv-focus]");
  if (error) error.focus();

  // "Select all" makes no sense without this script, so it is hidden until now.
  for (const all of document.querySelectorAll("[data-sv-all]")) {
    all.hidden = false;
    const boxes = all.closest("form").querySelectorAll('input[name="ids"]');
    all.addEventListener("change", () => {
      for (const box of boxes) box.checked = all.checked;
    });
  }

  // One open menu of actions at a time; Escape and a click beside it close it.
  const menus = document.querySelectorAll("details.sv-actions");
  const close = (except) => {
    for (const menu of menus) if (menu !== except) menu.open = false;
  };
  for (const menu of menus) menu.addEventListener("toggle", () => menu.open && close(menu));
  document.addEventListener("click", (event) => close(event.target.closest("details.sv-actions")));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const open = document.querySelector("details.sv-actions[open]");
    close(null);
    if (open) open.querySelector("summary").focus();
  });

  // The preview of a text while it is typed.
  for (const form of document.querySelectorAll("[data-sv-preview-url]")) {
    const token = form.querySelector('input[type="hidden"]');
    for (const editor of form.querySelectorAll("[data-sv-editor]")) {
      const area = editor.querySelector("textarea");
      const shown = editor.querySelector("[data-sv-preview]");
      const parts = editor.querySelector("[data-sv-parts]");
      const problem = editor.querySelector("[data-sv-preview-error]");
      let timer = 0;
      let latest = 0;
      const refresh = async () => {
        const number = (latest += 1);
        const headers = { "Content-Type": "application/json", Accept: "application/json" };
        if (token) headers["X-CSRFToken"] = token.value;
        const body = JSON.stringify({ text: area.value, locale: area.dataset.svLocale });
        const options = { method: "POST", headers, body };
        const answer = await fetch(form.dataset.svPreviewUrl, options).catch(() => null);
        if (!answer || number !== latest) return;
        const result = await answer.json();
        const earlier = document.getElementById(`${area.id}-error`); // of the text before
        if (earlier) earlier.remove();
        if (answer.ok) area.removeAttribute("aria-invalid");
        else area.setAttribute("aria-invalid", "true");
        problem.hidden = answer.ok;
        problem.textContent = answer.ok ? "" : result.detail || result.title;
        if (!answer.ok) return;
        shown.textContent = result.text;
        parts.textContent = result.parts_text;
      };
      area.addEventListener("input", () => {
        clearTimeout(timer);
        timer = setTimeout(refresh, 250);
      });
    }
  }

  // A send that is under way is shown again every few seconds, unless a question is open.
  const running = document.querySelector("[data-sv-reload]");
  if (running) {
    setInterval(() => {
      if (!document.querySelector("details[open]")) location.reload();
    }, 1000 * Number(running.dataset.svReload));
  }
})();
