// Keeps a page current. Without it all pages work, and are as they were when they were loaded.
"use strict";
(() => {
  const live = document.getElementById("live");
  const connection = document.getElementById("connection");
  const said = document.getElementById("said");
  let offset = 0; // of the server's clock

  const now = () => Date.now() + offset;

  const age = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    if (s < 120) return s + " s";
    if (s < 7200) return Math.floor(s / 60) + " min";
    if (s < 172800) return Math.floor(s / 3600) + " h";
    return Math.floor(s / 86400) + " d";
  };

  const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  // tick shows ages and what is left of leases.
  const tick = () => {
    for (const t of document.querySelectorAll("[data-age]")) {
      put(t, age(now() - t.dataset.age) + " ago");
      t.title = new Date(+t.dataset.age).toLocaleString();
    }
    for (const t of document.querySelectorAll("[data-clock]")) {
      const at = new Date(+t.dataset.clock);
      const today = Math.abs(now() - at) < 12 * 3600 * 1000;
      put(t, today ? at.toLocaleTimeString([], { hour12: false }) : at.toLocaleString());
      t.title = at.toLocaleString();
    }
    for (const t of document.querySelectorAll("[data-left]")) {
      put(t, String(Math.max(0, Math.floor((t.dataset.left - now()) / 1000))));
    }
    for (const t of document.querySelectorAll("[data-until]")) {
      t.value = Math.max(0, (t.dataset.until - now()) / 1000);
    }
  };

  const timed = ["age", "clock", "left"];

  // morph makes a node like another one, and leaves alone what is equal, so that focus, selection and
  // open details survive.
  const morph = (old, next) => {
    if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName || (old.id || "") !== (next.id || "")) {
      old.replaceWith(next);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== next.nodeValue) old.nodeValue = next.nodeValue;
      return;
    }
    const same = timed.some((k) => k in next.dataset && next.dataset[k] === old.dataset[k]);
    for (const a of [...old.attributes]) {
      if (!next.hasAttribute(a.name) && a.name !== "open" && a.name !== "title") old.removeAttribute(a.name);
    }
    for (const a of next.attributes) {
      if (old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
    }
    if (!same) children(old, next);
  };

  const children = (old, next) => {
    const known = new Map();
    for (const c of old.children) if (c.id) known.set(c.id, c);
    let at = old.firstChild;
    for (const n of [...next.childNodes]) {
      let match = null;
      if (n.id && known.has(n.id)) match = known.get(n.id);
      else if (!n.id) while (at && at.id && !next.querySelector("#" + CSS.escape(at.id))) { const gone = at; at = at.nextSibling; gone.remove(); }
      if (!match && at && !at.id && !n.id && at.nodeName === n.nodeName) match = at;
      if (!match) { old.insertBefore(n, at); continue; }
      if (match !== at) old.insertBefore(match, at); else at = at.nextSibling;
      morph(match, n);
    }
    while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
  };

  // say tells a screen reader of the few things that matter, at most every ten seconds.
  let lastSaid = 0, toSay = "", timer = 0;
  const say = (text) => {
    toSay = text;
    if (timer) return;
    timer = setTimeout(() => { timer = 0; lastSaid = Date.now(); said.textContent = toSay; }, Math.max(0, 10000 - (Date.now() - lastSaid)));
  };
  const telling = () => [...document.querySelectorAll("[data-say]")].map((n) => n.textContent.replace(/\s+/g, " ").trim()).join(". ");

  let source = null, lost = 0, hidden = 0;

  const show = (message, id) => {
    offset = message.now - Date.now();
    const before = telling();
    const next = document.createElement("template");
    next.innerHTML = message.html; // made by the server's templates, which escape all text of others
    const box = document.createElement("div");
    box.append(next.content);
    children(live, box);
    live.dataset.id = id;
    tick();
    if (telling() !== before) say(telling());
  };

  const revision = () => (live.dataset.id || "").split("-")[1];

  const open = () => {
    if (source || !live) return;
    const at = new URL(location.href);
    at.searchParams.set("since", live.dataset.id);
    at.hash = "";
    source = new EventSource(at);
    source.onopen = () => {
      lost = 0;
      connection.className = "connection good";
      connection.textContent = "Live.";
    };
    source.onmessage = (e) => { show(JSON.parse(e.data), e.lastEventId); };
    source.onerror = () => {
      if (!lost) {
        lost = Date.now();
        connection.className = "connection bad";
        connection.textContent = "This page lost its server at " + new Date(lost).toLocaleTimeString([], { hour12: false }) +
          ". What you see is of revision " + revision() + ".";
      }
      if (source && source.readyState === EventSource.CLOSED) { // refused: the browser does not try again
        source.close();
        source = null;
        setTimeout(open, 5000);
      }
    };
  };
  const close = () => { if (source) { source.close(); source = null; } };

  document.addEventListener("visibilitychange", () => {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(close, 30000); else open();
  });
  addEventListener("pagehide", close);

  for (const field of document.querySelectorAll("[data-submit]")) {
    field.addEventListener("change", () => field.form.requestSubmit());
  }
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.nodeName)) return;
    const field = document.querySelector("[data-key='" + CSS.escape(e.key) + "']");
    if (field) { e.preventDefault(); field.focus(); field.select(); }
  });

  if (live) offset = (+live.dataset.now || Date.now()) - Date.now();
  document.documentElement.classList.add("script");
  tick();
  setInterval(tick, 1000);
  open();
})();
