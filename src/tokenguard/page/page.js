// What the page does better with a script: numbers of a column as they are pointed at, arrow keys, and news of calls.
// Without one it is the same page.
"use strict";

const readout = (column) => {
  const out = column.closest(".chart").querySelector(".readout");
  out.textContent = column.querySelector("title").textContent;
};

document.addEventListener("pointerover", (event) => {
  const column = event.target.closest?.(".column");
  if (column) readout(column);
});

document.addEventListener("focusin", (event) => {
  if (event.target.matches?.(".column")) readout(event.target);
});

document.addEventListener("keydown", (event) => {
  const column = event.target.closest?.(".column");
  const step = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" }[event.key];
  if (!column || !step) return;
  const next = column[step];
  if (next?.matches(".column")) next.focus();
  event.preventDefault();
});

document.addEventListener("change", (event) => {
  if (event.target.matches("form.ask select")) event.target.form.requestSubmit();
});

document.addEventListener("submit", (event) => {
  for (const field of event.target.querySelectorAll("input[name=where]")) if (!field.value.trim()) field.disabled = true;
});

const busy = () =>
  document.hidden ||
  document.querySelector(".panel:popover-open, form.ask :focus") !== null ||
  !getSelection().isCollapsed;

const LATER_MS = 60000;
let later = { query: null, at: 0, html: "" };

// What replays calls takes longer: it is fetched after the rest, and kept for a minute.
const fillLater = async () => {
  const place = document.getElementById("later");
  if (!place) return;
  if (later.query === location.search) place.innerHTML = later.html;
  if (later.query === location.search && Date.now() - later.at < LATER_MS) return;
  const answer = await fetch("later" + location.search);
  if (!answer.ok) return;
  later = { query: location.search, at: Date.now(), html: await answer.text() };
  place.innerHTML = later.html;
};

const EVERY_MS = 2000;
let wait = EVERY_MS;
let seen = null;

const look = async () => {
  const main = document.querySelector("main");
  try {
    const state = await (await fetch("state")).text();
    main.classList.remove("lost");
    if (state === seen) return;
    if (seen !== null && busy()) return;
    if (seen !== null) {
      const began = performance.now();
      const fresh = await fetch("part" + location.search);
      if (!fresh.ok) return;
      const open = [...main.querySelectorAll("details")].map((each) => each.open);
      const focus = [...main.querySelectorAll("a, button, .column, summary")].indexOf(document.activeElement);
      const held = document.createElement("div");
      held.innerHTML = await fresh.text(); // ours, and escaped where it was made
      main.replaceChildren(...held.firstElementChild.childNodes);
      main.querySelectorAll("details").forEach((each, n) => { if (open[n] !== undefined) each.open = open[n]; });
      if (focus >= 0) main.querySelectorAll("a, button, .column, summary")[focus]?.focus({ preventScroll: true });
      wait = Math.max(EVERY_MS, 10 * (performance.now() - began)); // a tenth of the time at most
    }
    seen = state;
    await fillLater();
  } catch {
    main.classList.add("lost"); // the server has ended
  } finally {
    setTimeout(look, wait);
  }
};

if (document.querySelector("main[data-live]")) {
  look();
}
