"use strict";
document.documentElement.classList.add("js");
const find = (id) => document.getElementById(id);
const HERE = location.origin + location.pathname; // without the credentials an address may hold
const QUIET = 5000; // ms without a word after which the connection counts as lost; one comes every 2 s
const PAUSE = 3000; // ms between two attempts to connect
const GLANCE = 10000; // ms between two looks of a page in the background, which holds no connection
const PATIENCE = 2000; // ms for the first word after connecting
let [source, tried, wasLive] = [null, 0, null];
let heard = performance.now(); // by a clock that nobody sets
let told = null; // the daemon's time as the last fragments told it, and when they came

// Makes `old` what `fresh` is and touches only what differs: focus, scroll and selection stay.
function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(fresh);
  if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
  if (old.nodeType !== Node.ELEMENT_NODE) return;
  for (const name of old.getAttributeNames()) {
    // That a button works is known to the script alone.
    if (!fresh.hasAttribute(name) && name !== "aria-disabled") old.removeAttribute(name);
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
  if (!focused.isConnected && section) {
    const next = find(focused.dataset.next);
    (section.contains(next) ? next : section.querySelector("h2")).focus();
  }
  for (const [id, start] of picked) point(find(id), start);
  if (fragments.about) takeTime();
  if (fragments.health) tellTrial();
  title(find("health").dataset.title);
}

function title(told) {
  const prompt = find("prompt"); // there is one on its own page
  document.title = prompt ? `${prompt.dataset.title} – ${told}` : told;
}

// The daemon's time in its own zone, whatever the browser's clock and zone are, in ms.
function takeTime() {
  told = { now: Date.parse(`${find("about").dataset.now}Z`), at: performance.now() };
}

function clock(at) {
  return new Date(told.now + at - told.at).toISOString().slice(11, 19);
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
  const time = clock(heard);
  find("live").className = isLive ? "live" : "live off";
  find("live-text").textContent = isLive ? "Live" : `Not live since ${time}; trying again`;
  document.documentElement.classList.toggle("unheard", !isLive);
  find("unheard").hidden = isLive;
  find("unheard-text").textContent = isLive ? "" : `Unknown: last heard at ${time}. What is below was so then. See whether the daemon runs, and can be reached.`;
  // What was not well may still be so; that all was well is no news.
  find("health").hidden = !isLive && find("health").classList.contains("green");
  if (!isLive) title(`○ Unknown, last heard at ${time} – ChatGPT Source`);
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
title(find("health").dataset.title);
connect();
