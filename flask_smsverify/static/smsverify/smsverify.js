/* Enhancements: focus, countdown, WebOTP, delivery state, one submission per form. The pages work
   without this file. */
(function () {
  "use strict";
  var panel = document.querySelector(".sv-panel");
  if (!panel) return;
  var find = function (selector) { return panel.querySelector(selector); };
  var all = function (selector) { return Array.prototype.slice.call(panel.querySelectorAll(selector)); };
  var locale = panel.getAttribute("data-sv-intl") || panel.lang || "en";
  var status = find("[data-sv-status]");
  var announce = function (text) { if (status && text) status.textContent = text; };
  var now = function () { return Date.now(); };

  var summary = find("[data-sv-focus]");
  if (summary) summary.focus();

  /* The server does not know the visitor's time zone; the browser does. */
  all("time[data-sv-clock]").forEach(function (time) {
    try {
      time.textContent = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" })
        .format(new Date(time.dateTime));
    } catch (e) { /* keep the server's text */ }
  });

  /* Submit a form once. A page that is restored by the back button can submit again. */
  var waiting = false;
  var submitted = false;
  var button, idle;
  function updateButtons() {
    all("button[type=submit]").forEach(function (button) {
      button.disabled = submitted || (waiting && button.form.hasAttribute("data-sv-send"));
    });
  }
  panel.addEventListener("submit", function (event) {
    if (submitted) { event.preventDefault(); return; }
    submitted = true;
    setTimeout(updateButtons, 0);
    var pressed = event.submitter || event.target.querySelector("[data-sv-busy]");
    var busy = pressed && pressed.getAttribute("data-sv-busy");
    if (!busy) return;
    idle = pressed.textContent;
    button = pressed;
    button.textContent = busy;
    announce(busy);
  });
  addEventListener("pageshow", function (event) {
    if (event.persisted) { submitted = false; if (button) button.textContent = idle; updateButtons(); }
  });

  /* The countdown to the next send. The server enforces the wait. */
  var timer = find("[data-sv-seconds]");
  if (timer) {
    var readyAt = now() + timer.getAttribute("data-sv-seconds") * 1000;
    var digits = function (n, width) { return n.toLocaleString(locale, { minimumIntegerDigits: width }); };
    var tick = function () {
      var left = Math.ceil((readyAt - now()) / 1000);
      if (left <= 0) {
        waiting = false;
        updateButtons();
        find("[data-sv-wait]").hidden = true;
        announce(status.getAttribute("data-sv-ready"));
        return;
      }
      var hours = Math.floor(left / 3600);
      var minutes = Math.floor(left / 60) % 60;
      timer.textContent = (hours ? digits(hours, 1) + ":" : "") + digits(minutes, hours ? 2 : 1) + ":" + digits(left % 60, 2);
      setTimeout(tick, (readyAt - now()) % 1000 || 1000);
    };
    waiting = true;
    updateButtons();
    tick();
  }

  var expiresIn = panel.getAttribute("data-sv-expires-in");
  var expiresAt = expiresIn === null ? 0 : now() + expiresIn * 1000;

  /* WebOTP: the browser reads the code from the text message after the visitor agrees. Only a code
     from WebOTP is submitted automatically. */
  var input = find("[data-sv-webotp]");
  if (input && "OTPCredential" in window) {
    var request = new AbortController();
    input.form.addEventListener("submit", function () { request.abort(); });
    addEventListener("pagehide", function () { request.abort(); });
    setTimeout(function () { request.abort(); }, Math.max(0, expiresAt - now()));
    navigator.credentials.get({ otp: { transport: ["sms"] }, signal: request.signal }).then(function (otp) {
      if (!otp || !otp.code || submitted) return;
      input.value = otp.code;
      if (input.form.requestSubmit) input.form.requestSubmit(); else find("[data-sv-check] button").click();
    }, function () { /* declined or aborted */ });
  }

  /* Poll the state at growing intervals, not in a hidden tab. */
  var url = panel.getAttribute("data-sv-status-url");
  var line = find("[data-sv-delivery]");
  if (url && window.fetch) {
    var interval = 3000;
    var schedule = function () {
      if (now() >= expiresAt) { announce(status && status.getAttribute("data-sv-expired")); return; }
      setTimeout(poll, Math.min(interval, expiresAt - now() + 500));
      interval = Math.min(interval * 1.5, 30000);
    };
    var poll = function () {
      if (document.hidden || submitted || now() >= expiresAt) { schedule(); return; }
      fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store" })
        .then(function (response) {
          if (response.status >= 500) throw response;
          return response.ok ? response.json() : {}; /* signed out */
        })
        .then(function (body) {
          var state = body.state;
          if (state && state !== "pending") {
            if (submitted) return;
            if (state !== "verified") location.reload();
            else location.assign(panel.getAttribute("data-sv-next"));
            return;
          }
          var text = body.delivery && line && line.getAttribute("data-sv-" + body.delivery);
          if (text && body.delivery !== line.getAttribute("data-sv-delivery")) {
            line.setAttribute("data-sv-delivery", body.delivery);
            find("[data-sv-delivery-text]").textContent = text;
            var title = find("[data-sv-uncertain]");
            if (/^un|^rej/.test(body.delivery)) title.textContent = title.getAttribute("data-sv-uncertain");
          }
          if (state) schedule();
        }, schedule);
    };
    schedule();
  }
})();
