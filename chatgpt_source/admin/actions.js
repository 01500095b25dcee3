// What a viewer does: follow links in place, act on prompts and peers, search, try a prompt.

function say(place, textContent, good = true) {
  Object.assign(place, { textContent, className: good ? "said" : "said bad" });
  place.closest("section").classList.toggle("told", textContent !== "");
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

let answer = () => {};

// Resolves to whether the viewer is sure of what a button does. An event `close` may come late, when
// the next question is asked already.
function sure({ dataset }) {
  const dialog = find("sure");
  find("sure-title").textContent = dataset.sure;
  find("sure-why").textContent = dataset.why;
  find("sure-yes").textContent = dataset.yes;
  for (const cost of dialog.querySelectorAll("[data-kind]")) cost.hidden = cost.dataset.kind !== dataset.kind;
  dialog.dataset.kind = dataset.kind;
  dialog.showModal();
  find("sure-no").focus(); // one key too many does no harm
  return new Promise((resolve) => {
    answer = resolve;
  });
}

// A peer that is tried, and when its next try was due before: how that ends is news.
let trial = null;

const due = (peer) => find(`trouble-${peer}`)?.querySelector("[data-at]")?.dataset.at;

function tellTrial() {
  const row = trial && find(`trouble-${trial.peer}`);
  if (!trial || (row && [undefined, trial.due].includes(due(trial.peer)))) return;
  const told = row && [...row.querySelector("strong").childNodes].slice(1); // without its level
  const what = row ? `Not yet: ${told.map((node) => node.textContent).join("")}` : "It answers again.";
  say(find("said-health"), `Tried at ${clock(performance.now())}. ${what}`, !row);
  trial = null;
}

async function act(button) {
  const { done, sure: question, try: peer } = button.dataset;
  const path = button.dataset.post || `api/peers/${encodeURIComponent(peer)}/try`;
  const place = button.closest("section").querySelector(".said");
  if (question && !(await sure(button))) return;
  await busy(button, async () => {
    say(place, "Working …");
    const before = peer && { peer, due: due(peer) };
    const { good, told, detail } = await post(path);
    say(place, good ? told.detail || done : `Not done: ${detail.replace(/\.$/, "")}.`, good);
    if (good && peer) trial = before;
    tellTrial();
  });
}

// A page from elsewhere over plain HTTP has no clipboard; what is selected can still be copied.
async function copy(button) {
  const from = find(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(from.textContent);
  } catch {
    getSelection().selectAllChildren(from);
    document.execCommand("copy");
  }
  say(find("said-prompt"), `Copied: ${from.textContent}`);
}

// Shows where a link leads to, unless the viewer is there.
function follow(link) {
  go(link.search || "?");
  const there = link.hash && find(link.hash.slice(1)).closest("section");
  if (!there || there.contains(link)) return;
  there.scrollIntoView();
  there.querySelector("h2").focus({ preventScroll: true });
}

async function send() {
  say(find("sent"), "");
  const type = { "Content-Type": "text/plain; charset=utf-8" };
  const { good, told, detail } = await post("api/prompts", find("text").value, type);
  if (!good) return say(find("sent"), `Not accepted: ${detail}.`, false);
  say(find("sent"), `Accepted as ${told.id.slice(0, 8)}.`);
  find("text").value = "";
  const query = new URLSearchParams(location.search);
  query.set("tried", told.id);
  go(`?${query}`);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-live]");
  if (link && find("prompts") && wasLive && !(event.ctrlKey || event.metaKey || event.shiftKey)) {
    event.preventDefault();
    follow(link);
  }
  const button = event.target.closest("button");
  if (button?.dataset.post || button?.dataset.try) act(button);
  if (button?.dataset.copy) copy(button);
});
find("sure").addEventListener("submit", ({ submitter }) => answer(submitter.value === "yes"));
find("sure").addEventListener("cancel", () => answer(false));
find("search")?.addEventListener("submit", (event) => {
  if (!wasLive) return;
  event.preventDefault();
  const query = find("q").value.trim();
  go(query ? `?${new URLSearchParams({ q: query })}` : "?");
});
find("form")?.addEventListener("submit", (event) => {
  event.preventDefault();
  busy(find("send"), send);
});
find("text")?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("form").requestSubmit();
});
