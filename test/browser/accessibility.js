(() => {
  const found = [];
  const visible = (n) => n.checkVisibility() && n.getClientRects().length > 0;
  if (!document.documentElement.lang) found.push("no language");
  if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
  if (document.documentElement.scrollWidth > innerWidth) found.push("wider than the window: " + document.documentElement.scrollWidth + " > " + innerWidth);
  for (const n of document.querySelectorAll("input, select, textarea")) {
    if (n.type !== "hidden" && !n.labels.length && !n.ariaLabel) found.push("no label: " + n.outerHTML);
  }
  for (const n of document.querySelectorAll("a, button, summary")) {
    if (visible(n) && !n.textContent.trim() && !n.ariaLabel) found.push("no name: " + n.outerHTML);
  }
  for (const n of document.querySelectorAll("table")) {
    if (!n.ariaLabel && !n.getAttribute("aria-labelledby")) found.push("a table without a name");
    for (const h of n.querySelectorAll("th")) if (!h.scope) found.push("no scope: " + h.outerHTML);
  }
  const ids = [...document.querySelectorAll("[id]")].map((n) => n.id);
  for (const id of new Set(ids)) if (ids.filter((i) => i === id).length > 1) found.push("id twice: " + id);
  for (const n of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
    for (const a of ["aria-labelledby", "aria-describedby"]) {
      const id = n.getAttribute(a);
      if (id && !document.getElementById(id)) found.push(a + " of nothing: " + id);
    }
  }
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const rgba = (text) => { const m = text.match(/[\d.]+/g).map(Number); if (text.startsWith("color(srgb")) for (let i = 0; i < 3; i++) m[i] *= 255; return m; };
  const behind = (n) => {
    for (; n; n = n.parentElement) {
      const c = rgba(getComputedStyle(n).backgroundColor);
      if (c.length < 4 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const seen = new Set();
  while (walker.nextNode()) {
    const n = walker.currentNode.parentElement;
    if (!walker.currentNode.nodeValue.trim() || seen.has(n) || !visible(n) || n.closest("svg, .hidden, .skip, option")) continue;
    seen.add(n);
    const a = light(rgba(getComputedStyle(n).color)), b = light(behind(n));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push("contrast " + ratio.toFixed(2) + ": " + n.outerHTML.slice(0, 120));
  }
  return found.slice(0, 10);
})()
