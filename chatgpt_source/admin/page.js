"use strict";
document.documentElement.classList.add("js");
const find = (id) => document.getElementById(id);
const HERE = location.origin + location.pathname; // without the credentials an address may hold
const QUIET = 5000; // ms without a word after which the connection counts as lost; one comes every 2 s
const PAUSE = 3000; // ms between two attempts to connect
const GLANCE = 10000; // ms between two looks of a page in the background, which holds no connection
const PATIENCE = 2000; // ms for the first word after connecting
const SHOWN = 15000; // ms for which it is shown what came of a try
let [source, tried, wasLive] = [null, 0, null];
let heard = performance.now(); // by a clock that nobody sets
let told = null; // the daemon's time as the last fragments told it, and when they came

// Makes `old` what `fresh` is and touches only what differs: focus, scroll and selection stay.
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  for (const name of old.getAttributeNames()) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const wanted = new Set([...fresh.children].map((child) => child.id));
  for (const child of [...old.children]) if (child.id && !wanted.has(child.id)) child.remove();
  const known = new Map([...old.children].map((child) => [child.id, child]));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const same = child.id ? known.get(child.id) : at && !at.id && at;
    if (same && same === at) at = at.nextSibling;
    else old.insertBefore(same || child, at);
    if (same) morph(same, child);
  }
  for (let next; at; at = next) {
    next = at.nextSibling;
    at.remove();
  }
}

function swap(fragments) {
  const focused = document.activeElement;
  const section = focused.closest("section");
  for (const [id, html] of Object.entries(fragments)) {
    const template = document.createElement("template");
    template.innerHTML = html;
    if (find(id)) morph(find(id), template.content.firstElementChild);
  }
  if (!focused.isConnected && section) section.querySelector("h2").focus();
  for (const [id, start] of picked) point(find(id), start);
  if (fragments.about) takeTime();
  document.title = find("health").dataset.title;
}

// The charts: a pointer or the arrow keys pick a column, whose values are shown below; it is known
// by its start, so that it stays picked when the columns move on.
const picked = new Map();

function point(canvas, start) {
  if (!canvas) return;
  const { first, seconds, told } = canvas.dataset;
  const words = JSON.parse(told);
  const last = words.length - 1;
  const at = Math.min(last, Math.max(0, Math.round((start - first) / seconds)));
  canvas.ariaValueNow = at;
  canvas.ariaValueText = words[at];
  const cursor = canvas.querySelector(".cursor");
  cursor.setAttribute("x", `${(100 * at) / words.length}%`);
  cursor.setAttribute("width", `${100 / words.length}%`);
  find(canvas.id.replace("canvas", "readout")).textContent = words[at];
  picked.set(canvas.id, Number(first) + at * seconds);
}

function leave(canvas) {
  if (!picked.delete(canvas.id)) return;
  canvas.querySelector(".cursor").setAttribute("width", "0");
  const readout = find(canvas.id.replace("canvas", "readout"));
  readout.textContent = readout.dataset.top;
}

function column(canvas, x) {
  const { left, width } = canvas.getBoundingClientRect();
  const { first, seconds } = canvas.dataset;
  const most = Number(canvas.ariaValueMax);
  const at = Math.min(most, Math.max(0, Math.floor(((x - left) / width) * (most + 1))));
  point(canvas, Number(first) + at * seconds);
}

const WALK = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -1e6, End: 1e6 };

// The daemon's time in its own zone, whatever the browser's clock and zone are, in ms.
function takeTime() {
  told = { now: Date.parse(`${find("about").dataset.now}Z`), at: performance.now() };
}

function countDown() {
  for (const each of document.querySelectorAll("#health [data-at]")) {
    const left = (Date.parse(`${each.dataset.at}Z`) - told.now + told.at - performance.now()) / 1000;
    each.textContent = left < 1 ? "now" : left < 60 ? `in ${Math.floor(left)} s` : `in ${Math.floor(left / 60)} min`;
  }
}

function live(isLive) {
  if (isLive === wasLive) return;
  wasLive = isLive;
  const time = new Date(told.now + heard - told.at).toISOString().slice(11, 19);
  find("live").className = isLive ? "live" : "live off";
  find("live-text").textContent = isLive ? "Live" : `Not live since ${time}; trying again`;
  document.documentElement.classList.toggle("unheard", !isLive);
  find("unheard").hidden = isLive;
  find("unheard-text").textContent = isLive ? "" : `Unknown: last heard at ${time}. What is below was so then.`;
  // What was not well may still be so; that all was well is no news.
  find("health").hidden = !isLive && find("health").classList.contains("green");
  if (!isLive) document.title = `○ Unknown, last heard at ${time} – ChatGPT Source`;
}

function connect() {
  if (source) source.close();
  tried = performance.now();
  source = new EventSource(`${HERE}api/events${location.search}`);
  source.onmessage = (event) => {
    swap(JSON.parse(event.data));
    heard = performance.now();
    live(true);
    if (document.hidden) source.close();
  };
  source.onerror = () => live(false);
}

function go(address) {
  history.pushState(null, "", address);
  connect();
}

function say(id, textContent, good = true) {
  Object.assign(find(id), { textContent, className: good ? "" : "bad" });
}

async function post(path, body, headers = {}) {
  headers = { "X-Requested-With": "chatgpt-source", ...headers };
  try {
    const response = await fetch(HERE + path, { method: "POST", body, headers });
    const told = await response.json().catch(() => ({}));
    return { good: response.ok, told, detail: told.detail || `HTTP status ${response.status}` };
  } catch {
    return { good: false, told: {}, detail: "the daemon can’t be reached" };
  }
}

// A button that is `aria-disabled` keeps the focus, as one that is `disabled` would not.
async function busy(button, work) {
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true";
  await work();
  button.ariaDisabled = null;
}

async function redrive(id) {
  const { good, detail } = await post(`api/prompts/${encodeURIComponent(id)}/redrive`);
  const told = good ? "is taken up again" : `was not redriven: ${detail}`;
  say("said", `Prompt ${id.slice(0, 8)} ${told}.`, good);
}

async function tryNow(peer) {
  const { good, detail } = await post(`api/peers/${encodeURIComponent(peer)}/try`);
  say("tried", good ? detail : `Not tried: ${detail}.`, good);
  setTimeout(() => say("tried", ""), SHOWN);
}

async function send() {
  say("sent", "");
  const type = { "Content-Type": "text/plain; charset=utf-8" };
  const { good, told, detail } = await post("api/prompts", find("text").value, type);
  if (!good) return say("sent", `Not accepted: ${detail}.`, false);
  say("sent", `Accepted as ${told.id.slice(0, 8)}.`);
  find("text").value = "";
  const query = new URLSearchParams(location.search);
  query.set("prompt", told.id);
  go(`?${query}`);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-live]");
  if (link && wasLive && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
    event.preventDefault();
    go(link.search || "?");
    if (link.hash === "#try") find("try").scrollIntoView({ block: "nearest" });
  }
  const button = event.target.closest("button[data-redrive]");
  if (button) busy(button, () => redrive(button.dataset.redrive));
  const trying = event.target.closest("button[data-try]");
  if (trying) busy(trying, () => tryNow(trying.dataset.try));
  if (event.target.id === "redrive-all") {
    find("sure-count").textContent = event.target.dataset.count;
    find("sure").returnValue = "no";
    find("sure").showModal();
  }
});
for (const kind of ["pointerdown", "pointermove"]) {
  document.addEventListener(kind, (event) => {
    const canvas = event.target.closest(".canvas");
    if (canvas) column(canvas, event.clientX);
  });
}
document.addEventListener("pointerout", (event) => {
  const canvas = event.target.closest(".canvas");
  const left = canvas && event.pointerType === "mouse" && !canvas.contains(event.relatedTarget);
  if (left && canvas !== document.activeElement) leave(canvas);
});
document.addEventListener("focusin", ({ target }) => {
  if (target.matches(".canvas") && !picked.has(target.id)) point(target, Infinity);
});
document.addEventListener("focusout", ({ target }) => {
  if (target.matches(".canvas")) leave(target);
});
document.addEventListener("keydown", (event) => {
  const canvas = event.target.closest(".canvas");
  if (!canvas || !(event.key in WALK) || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const { first, seconds } = canvas.dataset;
  point(canvas, Number(first) + (Number(canvas.ariaValueNow) + WALK[event.key]) * seconds);
});
find("sure").addEventListener("close", async () => {
  if (find("sure").returnValue !== "yes") return;
  say("said", "Redriving …");
  const { good, detail } = await post("api/redrive");
  say("said", good ? detail : `Not redriven: ${detail}.`, good);
});
find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  busy(find("send"), send);
});
find("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("form").requestSubmit();
});
addEventListener("popstate", connect);
document.addEventListener("visibilitychange", () => (document.hidden ? source.close() : connect()));
setInterval(() => {
  const [silent, waited] = [performance.now() - heard, performance.now() - tried];
  const [quiet, pause] = document.hidden ? [QUIET + GLANCE, GLANCE] : [QUIET, PAUSE];
  if (silent > quiet && waited > PATIENCE) live(false);
  const lost = source.readyState === EventSource.CLOSED ? waited > pause : Math.min(silent, waited) > QUIET;
  if (lost) connect();
  if (wasLive) countDown();
}, 500);
find("live-text").textContent = "Connecting …";
takeTime();
document.title = find("health").dataset.title;
connect();
