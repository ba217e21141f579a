/* Proof of work: solve the puzzle of the number in a worker, then submit the form. */
(function () {
  "use strict";
  document.querySelectorAll("form[data-sv-seed]").forEach(function (form) {
    var get = function (name) { return form.getAttribute("data-sv-" + name); };
    var field = form.elements.mobile;
    var buttons = form.querySelectorAll("button[type=submit]");
    var puzzle = { seed: get("seed"), puzzles: +get("puzzles"), bits: +get("bits") };
    var solved, pending, submitter, worker, isCurrent; /* isCurrent: the seed is */
    var dueAt = Date.now() + get("due-in") * 1000; /* until then the code is the same */
    var subject = function () { return field ? field.value : get("subject"); };

    function show(isBusy) {
      buttons.forEach(function (button) { button.disabled = isBusy; });
      form.querySelector("[data-sv-working]").hidden = !isBusy;
    }
    function finish() {
      if (!isCurrent) return;
      if (solved !== subject()) { start(); return; }
      show(false);
      if (form.requestSubmit) form.requestSubmit(submitter); else form.submit();
    }
    function fail() { /* no worker: the server says what to do */
      pending = null;
      solved = subject();
      finish();
    }
    function start() {
      var wanted = subject();
      if (!wanted || wanted === solved || wanted === pending) return;
      if (worker) worker.terminate();
      pending = wanted;
      try { worker = new Worker(get("worker")); } catch (e) { fail(); return; }
      worker.onmessage = function (event) {
        if (event.data.subject !== pending) return;
        solved = pending;
        pending = null;
        form.elements.proof_of_work.value = event.data.solution;
        finish();
      };
      worker.onerror = fail;
      puzzle.subject = wanted;
      worker.postMessage(puzzle);
    }
    /* The page may be older than its seed, and another tab may have used the seed. */
    function refresh() {
      var proceed = function (body) {
        if (isCurrent) return;
        isCurrent = true;
        var next = body && body.csrf_token ? body.proof_of_work : puzzle;
        if (!next) solved = subject(); /* no longer required */
        else if (next.seed !== puzzle.seed) { puzzle = next; solved = pending = null; }
        finish();
      };
      setTimeout(proceed, 5000); /* no answer */
      fetch(get("seed-url"), { headers: { Accept: "application/json" } })
        .then(function (response) { return response.json(); }).then(proceed, proceed);
    }

    if (field) field.addEventListener("change", start); else setTimeout(start, dueAt - Date.now());
    form.addEventListener("submit", function (event) {
      if (Date.now() < dueAt || !subject() || isCurrent && subject() === solved) return;
      event.preventDefault();
      event.stopPropagation();
      submitter = event.submitter || buttons[0];
      show(true);
      start();
      refresh();
    });
    addEventListener("pageshow", function (event) {
      if (event.persisted) location.reload(); /* the solution was used */
    });
  });
})();
