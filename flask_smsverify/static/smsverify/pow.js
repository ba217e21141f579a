/* Proof of work: solve the puzzle of the number in a worker, then submit the form. */
(function () {
  "use strict";
  Array.prototype.forEach.call(document.querySelectorAll("form[data-sv-seed]"), function (form) {
    var get = function (name) { return form.getAttribute("data-sv-" + name); };
    var solution = form.querySelector("input[name=proof_of_work]");
    var field = form.querySelector("input[name=mobile]");
    var status = form.querySelector("[data-sv-working]");
    var buttons = Array.prototype.slice.call(form.querySelectorAll("button[type=submit]"));
    var solved = null;
    var pending = null;
    var submitter = null;
    var worker = null;
    var dueAt = Date.now() + get("due-in") * 1000; /* until then the same code is sent again */
    var subject = function () { return field ? field.value : get("subject"); };

    function submit() {
      buttons.forEach(function (button) { button.disabled = false; });
      status.hidden = true;
      if (form.requestSubmit) form.requestSubmit(submitter); else form.submit();
    }
    function done(event) {
      if (event.data.subject !== pending) return;
      solved = pending;
      pending = null;
      solution.value = event.data.solution;
      if (!submitter) return;
      if (solved === subject()) submit(); else start();
    }
    function fail() { /* no worker: the server says what to do */
      pending = null;
      solved = subject();
      if (submitter) submit();
    }
    function start() {
      var wanted = subject();
      if (!wanted || wanted === solved || wanted === pending) return;
      if (worker) worker.terminate();
      pending = wanted;
      try {
        worker = new Worker(get("worker"));
      } catch (e) { fail(); return; }
      worker.onmessage = done;
      worker.onerror = fail;
      worker.postMessage({ seed: get("seed"), subject: wanted, puzzles: +get("puzzles"), bits: +get("bits") });
    }

    if (field) field.addEventListener("change", start); else setTimeout(start, dueAt - Date.now());
    form.addEventListener("submit", function (event) {
      if (Date.now() < dueAt || !subject() || subject() === solved) return;
      event.preventDefault();
      event.stopPropagation();
      submitter = event.submitter || buttons[0];
      buttons.forEach(function (button) { button.disabled = true; });
      status.hidden = false;
      start();
    });
    addEventListener("pageshow", function (event) {
      if (event.persisted) location.reload(); /* the solution was used */
    });
  });
})();
