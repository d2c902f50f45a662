"use strict";

// Texts reach the page as text nodes and addresses as checked links, never as HTML.

const REFRESH = 30000; // milliseconds between two refreshes of a page that is visible
const AT_ONCE = 100; // rows made before the browser paints, and in each frame after that

const COLUMNS = [
  { key: "vendor", label: "Vendor", fill: fillVendor },
  { key: "job", label: "Job", fill: fillJob },
  { key: "dag", label: "DAG", fill: (cell, row) => cell.append(link(row.dag, "../" + row.dag_path)) },
  { key: "task", label: "Task", fill: fillTask },
  { key: "triggerer", label: "Triggerer", fill: fillTriggerer },
  { key: "since", label: "Since", fill: (cell, row) => fillTime(cell, row.since, "waiting for ", false) },
  { key: "deadline", label: "Deadline", fill: (cell, row) => fillTime(cell, row.deadline, "", true) },
];

const state = { rows: [], now: 0, isCut: false, sort: "since", isUp: true, drawing: 0, loaded: false };
const byId = (id) => document.getElementById(id);

// Drawing ---------------------------------------------------------------------

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function link(text, address) {
  const made = element("a", text);
  made.href = address;
  made.rel = "noopener noreferrer";
  made.addEventListener("click", openOutside);
  return made;
}

// Airflow frames the page in a sandbox that may open nothing. The frame around it may, and
// is of the same origin.
function openOutside(event) {
  if (window.parent === window || event.defaultPrevented) return;
  const isAirflow = this.origin === window.location.origin;
  const inParent = window.parent.document.createElement("a");
  inParent.href = this.href;
  inParent.rel = "noopener noreferrer";
  inParent.target = isAirflow && !event.ctrlKey && !event.metaKey ? "_self" : "_blank";
  event.preventDefault();
  inParent.click();
}

function fillVendor(cell, row) {
  cell.append(element("span", row.vendor));
  if (row.connection) cell.append(element("span", row.connection, "faint"));
}

function fillJob(cell, row) {
  if (!row.is_started) {
    cell.append(element("span", "not started yet"));
    if (row.job) cell.append(element("span", "of " + row.job, "faint"));
    return;
  }
  const isWeb = /^https?:\/\//i.test(row.url);
  cell.append(isWeb ? link(row.job || "open", row.url) : element("span", row.job || "–"));
}

function fillTask(cell, row) {
  cell.append(link(row.task, "../" + row.task_path), element("span", row.run, "faint"));
}

function fillTriggerer(cell, row) {
  cell.classList.add("life");
  if (!row.triggerer) {
    cell.append(element("span", "none yet"));
    return;
  }
  const ago = duration(state.now - row.alive_at);
  const life = row.is_alive ? "alive " + ago + " ago" : "no heartbeat for " + ago;
  cell.append(element("span", row.triggerer), element("span", life, row.is_alive ? "faint" : "faint late"));
}

function fillTime(cell, seconds, prefix, isEnd) {
  cell.classList.add("time");
  if (seconds === null) {
    cell.append(element("span", "none"));
    return;
  }
  const when = element("time", new Date(seconds * 1000).toLocaleString());
  when.dateTime = new Date(seconds * 1000).toISOString();
  const left = seconds - state.now;
  const isLate = isEnd && left < 0;
  const words = isEnd ? (isLate ? duration(-left) + " ago" : "in " + duration(left)) : prefix + duration(-left);
  cell.append(when, element("span", words, isLate ? "faint late" : "faint"));
}

function duration(seconds) {
  const minutes = Math.floor(Math.max(0, seconds) / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days) return days + " d " + (hours % 24) + " h";
  if (hours) return hours + " h " + (minutes % 60) + " min";
  return minutes ? minutes + " min" : Math.floor(Math.max(0, seconds)) + " s";
}

function drawRow(row) {
  const made = document.createElement("tr");
  for (const column of COLUMNS) {
    const cell = made.insertCell();
    cell.dataset.label = column.label;
    column.fill(cell, row);
  }
  return made;
}

function draw() {
  const shown = chosen();
  const body = byId("rows");
  const turn = ++state.drawing;
  let at = 0;
  const some = () => {
    if (turn !== state.drawing) return;
    const part = document.createDocumentFragment();
    for (const end = Math.min(at + AT_ONCE, shown.length); at < end; at += 1) part.append(drawRow(shown[at]));
    body.append(part);
    if (at < shown.length) requestAnimationFrame(some);
  };
  body.replaceChildren();
  some();
  byId("jobs").hidden = shown.length === 0;
  byId("empty").hidden = shown.length > 0 || !state.loaded;
  byId("empty").textContent = state.rows.length
    ? "No waiting task matches the filter."
    : "No task waits for a job. Deferred tasks of Airbyte, Fivetran and dbt Cloud appear here.";
  summarize(shown);
  markHeads();
}

function summarize(shown) {
  if (!state.loaded) return;
  const count = shown.length;
  const total = state.rows.length.toLocaleString() + (state.isCut ? " or more" : "");
  let text = (count === state.rows.length ? total : count.toLocaleString() + " of " + total) + " waiting";
  const oldest = shown.length ? shown.reduce((one, other) => (other.since < one.since ? other : one)) : null;
  if (oldest) text += "; the oldest for " + duration(state.now - oldest.since) + ": " + oldest.dag + ", " + oldest.task;
  byId("summary").textContent = text + ". Updated " + new Date().toLocaleTimeString() + ".";
}

// Choosing --------------------------------------------------------------------

function chosen() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const vendor = byId("vendor").value;
  const found = state.rows.filter((row) => {
    if (vendor && row.vendor !== vendor) return false;
    const text = [row.vendor, row.job, row.dag, row.task, row.run, row.connection, row.triggerer].join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const key = state.sort;
  const way = state.isUp ? 1 : -1;
  // What is unknown stands last, whichever way.
  return found.sort((one, other) => {
    const a = one[key];
    const b = other[key];
    if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1;
    if (typeof a === "number") return way * (a - b);
    return way * a.localeCompare(b, undefined, { numeric: true });
  });
}

function sortBy(key, isUp) {
  state.sort = key;
  state.isUp = isUp;
  byId("order").value = key;
  draw();
}

function markHeads() {
  for (const head of byId("heads").children) {
    const isSorted = head.dataset.key === state.sort;
    head.setAttribute("aria-sort", isSorted ? (state.isUp ? "ascending" : "descending") : "none");
  }
}

function listVendors() {
  const select = byId("vendor");
  const before = select.value;
  const names = [...new Set(state.rows.map((row) => row.vendor))].sort();
  if (before && !names.includes(before)) names.push(before);
  select.replaceChildren(new Option("All", ""), ...names.map((name) => new Option(name, name)));
  select.value = before;
}

// Loading ---------------------------------------------------------------------

async function load() {
  byId("refresh").disabled = true;
  try {
    const answer = await fetch("jobs", { credentials: "same-origin", headers: { Accept: "application/json" } });
    if (answer.status === 401) throw new Error("Your session has ended: reload Airflow and log in again.");
    if (answer.status === 403) throw new Error("You may not read task instances: get that right from an admin.");
    if (!answer.ok) throw new Error("Airflow answered " + answer.status + ": trying again in 30 s.");
    const found = await answer.json();
    state.rows = found.rows;
    state.now = found.now;
    state.isCut = found.is_cut;
    state.loaded = true;
    byId("trouble").hidden = true;
    listVendors();
    draw();
  } catch (error) {
    byId("trouble").textContent = error instanceof TypeError ? "Airflow does not answer: trying again in 30 s." : error.message;
    byId("trouble").hidden = false;
    if (!state.loaded) byId("summary").textContent = "";
  } finally {
    byId("refresh").disabled = false;
  }
}

// The theme: Airflow's where it frames the page, else that of the system ------------

function followTheme() {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const outer = window.parent === window ? null : window.parent.document.documentElement;
  const set = () => {
    const isKnown = outer && /\b(dark|light)\b/.test(outer.className);
    const isDark = isKnown ? /\bdark\b/.test(outer.className) : system.matches;
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
  };
  set();
  system.addEventListener("change", set);
  if (outer) new MutationObserver(set).observe(outer, { attributes: true, attributeFilter: ["class"] });
}

function begin() {
  followTheme();
  for (const column of COLUMNS) {
    const head = element("th");
    head.scope = "col";
    head.dataset.key = column.key;
    const button = element("button", column.label);
    button.type = "button";
    button.addEventListener("click", () => sortBy(column.key, state.sort !== column.key || !state.isUp));
    head.append(button);
    byId("heads").append(head);
    byId("order").append(new Option(column.label, column.key));
  }
  byId("order").value = state.sort;
  byId("order").addEventListener("change", (event) => sortBy(event.target.value, true));
  byId("filter").addEventListener("input", draw);
  byId("vendor").addEventListener("change", draw);
  byId("refresh").addEventListener("click", load);
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  setInterval(() => document.hidden || load(), REFRESH);
  load();
}

begin();
