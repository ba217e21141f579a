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
})();
