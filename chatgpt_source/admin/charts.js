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
