"use strict";
// A page that waits asks whether there is something else to show. Without
// scripts it reloads itself.
document.addEventListener("DOMContentLoaded", function () {
  var waits = document.getElementById("waits");
  if (!waits) return;
  var pause = 500;
  function look() {
    fetch(location.pathname.replace(/\/$/, "") + "/state", { credentials: "omit", cache: "no-store" })
      .then(function (r) {
        if (r.status >= 500) throw new Error(); // it is restarted, say
        return r.ok ? r.json() : { state: "" };
      })
      .then(function (now) {
        if (now.state !== waits.dataset.state) { location.replace(location.pathname); return; }
        again();
      })
      .catch(again);
  }
  function again() {
    pause = Math.min(pause * 1.3, 3000);
    setTimeout(look, pause);
  }
  setTimeout(look, pause);
});
