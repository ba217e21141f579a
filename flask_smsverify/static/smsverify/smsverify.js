/* Comfort on top of pages that work without it: focus, countdown, WebOTP, delivery, one submit. */
(function () {
  "use strict";
  var panel = document.querySelector(".sv-panel");
  if (!panel) return;
  var find = function (selector) { return panel.querySelector(selector); };
  var all = function (selector) { return Array.prototype.slice.call(panel.querySelectorAll(selector)); };
  var language = panel.lang || "en";
  var status = find("[data-sv-status]");
  var say = function (text) { if (status && text) status.textContent = text; };
  var now = function () { return Date.now(); };

  var summary = find("[data-sv-focus]");
  if (summary) summary.focus();

  /* The server's zone is a guess; the reader's own clock is not. */
  all("time[data-sv-clock]").forEach(function (time) {
    try {
      time.textContent = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" })
        .format(new Date(time.dateTime));
    } catch (e) { /* the server's text stays */ }
  });

  /* One submit per form. Coming back with the back button opens it again. */
  var waiting = false;
  var sending = false;
  function refresh() {
    all("button[type=submit]").forEach(function (button) {
      button.disabled = sending || (waiting && button.form.hasAttribute("data-sv-send"));
    });
  }
  panel.addEventListener("submit", function (event) {
    if (sending) { event.preventDefault(); return; }
    sending = true;
    setTimeout(refresh, 0);
  });
  addEventListener("pageshow", function (event) {
    if (event.persisted) { sending = false; refresh(); }
  });

  /* The countdown. It shows what the server enforces. */
  var timer = find("[data-sv-seconds]");
  if (timer) {
    var ready = now() + timer.getAttribute("data-sv-seconds") * 1000;
    var two = function (n, pad) { return n.toLocaleString(language, { minimumIntegerDigits: pad ? 2 : 1 }); };
    var tick = function () {
      var left = Math.ceil((ready - now()) / 1000);
      if (left <= 0) {
        waiting = false;
        refresh();
        find("[data-sv-wait]").hidden = true;
        say(status.getAttribute("data-sv-ready"));
        return;
      }
      var hours = Math.floor(left / 3600);
      var minutes = Math.floor(left / 60) % 60;
      timer.textContent = (hours ? two(hours) + ":" : "") + two(minutes, hours) + ":" + two(left % 60, true);
      setTimeout(tick, (ready - now()) % 1000 || 1000);
    };
    waiting = true;
    refresh();
    tick();
  }

  var expiresIn = panel.getAttribute("data-sv-expires-in");
  var expires = expiresIn === null ? 0 : now() + expiresIn * 1000;

  /* WebOTP: the browser reads the code's last line and asks its owner. Only then do we submit. */
  var input = find("[data-sv-webotp]");
  if (input && "OTPCredential" in window) {
    var asking = new AbortController();
    input.form.addEventListener("submit", function () { asking.abort(); });
    addEventListener("pagehide", function () { asking.abort(); });
    setTimeout(function () { asking.abort(); }, Math.max(0, expires - now()));
    navigator.credentials.get({ otp: { transport: ["sms"] }, signal: asking.signal }).then(function (otp) {
      if (!otp || !otp.code || sending) return;
      input.value = otp.code;
      if (input.form.requestSubmit) input.form.requestSubmit(); else find("[data-sv-check] button").click();
    }, function () { /* refused or aborted: typing still works */ });
  }

  /* How the message is doing, asked ever more rarely, and not at all in a hidden tab. */
  var url = panel.getAttribute("data-sv-status-url");
  var line = find("[data-sv-delivery]");
  if (url && window.fetch) {
    var pause = 3000;
    var next = function () {
      if (now() >= expires) { say(status && status.getAttribute("data-sv-expired")); return; }
      setTimeout(poll, Math.min(pause, expires - now() + 500));
      pause = Math.min(pause * 1.5, 30000);
    };
    var poll = function () {
      if (document.hidden || sending || now() >= expires) { next(); return; }
      fetch(url, { headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store" })
        .then(function (answer) {
          if (answer.status >= 500) throw answer;
          return answer.ok ? answer.json() : {}; /* signed out, say: no use asking again */
        })
        .then(function (body) {
          if (body.state === "verified") {
            if (!sending) location.assign(panel.getAttribute("data-sv-next"));
            return;
          }
          var text = body.delivery && line && line.getAttribute("data-sv-" + body.delivery);
          if (text && body.delivery !== line.getAttribute("data-sv-delivery")) {
            line.setAttribute("data-sv-delivery", body.delivery);
            find("[data-sv-told]").textContent = text;
            var title = find("[data-sv-doubt]");
            if (/^un|^rej/.test(body.delivery)) title.textContent = title.getAttribute("data-sv-doubt");
          }
          if (body.state === "pending") next();
        }, next);
    };
    next();
  }
})();
