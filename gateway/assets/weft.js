// What the gateway's pages do beyond HTML. Everything works without it but three things: which apps answer, times in one's own zone, and the keys.
"use strict";

(() => {
  const all = (selector) => Array.from(document.querySelectorAll(selector));
  const field = document.getElementById("q");
  const found = document.getElementById("found");
  const key = document.getElementById("slash");
  const tiles = all("[data-find]");
  const link = (tile) => tile.querySelector("a");
  const shown = () => tiles.filter((tile) => !tile.hidden && link(tile)).map(link);

  // ---- Search: the same as the server does, in the same text.

  const matches = (query, text) => query.toLowerCase().split(/\s+/).every((word) => text.includes(word));

  function filter() {
    const query = field.value.trim();
    tiles.forEach((tile) => { tile.hidden = !matches(query, tile.dataset.find); });
    all(".thread").forEach((section) => { section.hidden = !section.querySelector("[data-find]:not([hidden])"); });
    const total = Number(found.dataset.all);
    const count = tiles.filter((tile) => !tile.hidden).length;
    if (query === "") {
      found.textContent = total === 1 ? "1 app" : `${total} apps`;
    } else if (count === 0) {
      found.textContent = `Nothing matches “${query}”. Escape shows all.`;
    } else {
      found.textContent = `${count} of ${total}`;
    }
  }

  // ---- Keys: / to the search, arrows from tile to tile, Enter opens, Escape clears.

  const KEY_OFF = "weft-key-off";
  const keyIsOn = () => key.getAttribute("aria-pressed") === "true";

  function remember(off) {
    // Not every browser lets a page remember.
    try { off ? localStorage.setItem(KEY_OFF, "1") : localStorage.removeItem(KEY_OFF); } catch { /* then it is on again next time */ }
  }

  function remembered() {
    try { return localStorage.getItem(KEY_OFF) === "1"; } catch { return false; }
  }

  const isTyping = (element) => element.matches("input, textarea, select, [contenteditable]");

  // The nearest in the next row above or below.
  function inNextRow(links, from, direction) {
    const box = (element) => element.closest("[data-find]").getBoundingClientRect();
    const middle = (rect) => rect.left + rect.width / 2;
    const here = box(from);
    const beyond = links.map((element) => [element, box(element)]).filter(([, rect]) => (direction > 0 ? rect.top >= here.bottom - 1 : rect.bottom <= here.top + 1));
    if (beyond.length === 0) return null;
    const row = direction > 0 ? Math.min(...beyond.map(([, rect]) => rect.top)) : Math.max(...beyond.map(([, rect]) => rect.top));
    const distance = ([, rect]) => Math.abs(middle(rect) - middle(here));
    return beyond.filter(([, rect]) => Math.abs(rect.top - row) < 2).reduce((best, next) => (distance(next) < distance(best) ? next : best))[0];
  }

  function move(event) {
    const links = shown();
    const at = links.indexOf(document.activeElement);
    if (at < 0) return;
    const to = {
      ArrowRight: () => links[at + 1],
      ArrowLeft: () => links[at - 1],
      ArrowDown: () => inNextRow(links, links[at], 1),
      ArrowUp: () => inNextRow(links, links[at], -1) || field,
      Home: () => links[0],
      End: () => links[links.length - 1],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    const next = to();
    if (next) next.focus();
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.key === "/" && keyIsOn() && !isTyping(event.target)) {
      event.preventDefault();
      field.focus();
      field.select();
    } else if (event.key === "Escape") {
      if (field.value !== "") {
        field.value = "";
        filter();
        field.focus();
      } else if (document.activeElement === field) {
        field.blur();
      }
    } else if (event.target === field && event.key === "ArrowDown") {
      event.preventDefault();
      const [first] = shown();
      if (first) first.focus();
    } else {
      move(event);
    }
  }

  function portal() {
    key.hidden = false;
    key.setAttribute("aria-pressed", String(!remembered()));
    key.addEventListener("click", () => {
      const off = keyIsOn();
      key.setAttribute("aria-pressed", String(!off));
      remember(off);
    });
    field.addEventListener("input", filter);
    document.getElementById("search").addEventListener("submit", (event) => {
      event.preventDefault();
      const [first] = shown();
      if (first && field.value.trim() !== "") first.click();
    });
    document.addEventListener("keydown", pressed);
    // Going back, browsers fill in what was typed before.
    window.addEventListener("pageshow", () => { if (field.value !== field.defaultValue) filter(); });
  }

  // ---- Which apps answer.

  const WORDS = { up: "Answers", down: "Does not answer", unknown: "Not known" };
  const EVERY_MS = 20000;

  function show(apps) {
    all("[data-app]").forEach((element) => {
      const said = Object.hasOwn(apps, element.dataset.app) ? apps[element.dataset.app] : "unknown";
      const reach = Object.hasOwn(WORDS, said) ? said : "unknown";
      element.dataset.reach = reach;
      element.querySelector(".word").textContent = WORDS[reach];
    });
  }

  async function ask() {
    if (document.hidden) return true;
    try {
      const answer = await fetch("/.weft/apps.json", { headers: { accept: "application/json" }, cache: "no-store", redirect: "error" });
      if (answer.status === 401) {
        found.textContent = "Your session has ended. Load this page again to sign in.";
        show({});
        return false;
      }
      show(answer.ok ? (await answer.json()).apps : {});
    } catch {
      // Nobody knows now; what was known is old.
      show({});
    }
    return true;
  }

  async function keepAsking() {
    if (await ask()) setTimeout(keepAsking, EVERY_MS);
    else document.removeEventListener("visibilitychange", ask);
  }

  // ---- Times, and what can be copied.

  function times() {
    const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
    all("time[datetime]").forEach((element) => {
      element.title = element.textContent;
      element.textContent = local.format(new Date(element.dateTime));
    });
  }

  function copies() {
    if (!navigator.clipboard) return;
    all("[data-copy]").forEach((button) => {
      button.hidden = false;
      button.setAttribute("aria-live", "polite");
      button.addEventListener("click", async () => {
        try {
          await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
          button.textContent = "Copied";
        } catch {
          button.textContent = "Not copied";
        }
      });
    });
  }

  if (field && found && key) portal();
  if (document.querySelector("[data-app]")) {
    // Who comes back to the page does not wait.
    document.addEventListener("visibilitychange", ask);
    keepAsking();
  }
  times();
  copies();
})();
