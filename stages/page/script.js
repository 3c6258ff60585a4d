"use strict";
// What the page does beyond showing text: images from the sheets, names and merges for the groups, the map.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const percent = (share) => (100 * share).toFixed(1) + "%";

// ---- images: parts of the sheets, which become pictures when the first one of them is wanted ------------------------
const addresses = [];
function address(sheet) {
  if (!addresses[sheet]) {
    const bytes = Uint8Array.from(atob(data.sheets[sheet]), (letter) => letter.charCodeAt(0));
    addresses[sheet] = URL.createObjectURL(new Blob([bytes], { type: "image/webp" }));
  }
  return addresses[sheet];
}
function show(element, image) {
  const sheet = Math.floor(image / data.perSheet), place = image % data.perSheet;
  const inSheet = Math.min(data.perSheet, data.images.place.length - sheet * data.perSheet);
  const rows = Math.ceil(inSheet / data.columns), row = Math.floor(place / data.columns), column = place % data.columns;
  element.style.backgroundImage = `url(${address(sheet)})`;
  element.style.backgroundSize = `${100 * data.columns}% ${100 * rows}%`;
  element.style.backgroundPosition =
    `${(100 * column) / (data.columns - 1)}% ${rows > 1 ? (100 * row) / (rows - 1) : 0}%`;
  element.classList.toggle("pixels", data.side <= 32);
}
const whenSeen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    whenSeen.unobserve(target);
    for (const tile of target.querySelectorAll("[data-image]")) show(tile, +tile.dataset.image);
  }
}, { rootMargin: "400px" });

function tile(image) {
  const truth = data.images.truth[image], own = data.clusters[data.images.cluster[image]].matched;
  const wrong = truth >= 0 && own >= 0 && truth !== own;
  const text = data.images.place[image] + (truth >= 0 ? ", " + data.classes[truth] : "");
  const button = make("button", { type: "button", className: wrong ? "tile wrong" : "tile", title: text, ariaLabel: text });
  button.dataset.image = image;
  button.addEventListener("click", () => enlarge(image));
  return button;
}

function facts(image) {
  const { images } = data, second = images.second[image];
  return [
    ["group", called(images.cluster[image])],
    ["probability", percent(images.confidence[image])],
    ["next", images.margin[image] < 1 ? `${called(second)}, ${percent(images.confidence[image] - images.margin[image])}` : "–"],
    ...(images.truth[image] >= 0 ? [["class", data.classes[images.truth[image]]]] : []),
    [data.files ? "file" : "image", images.place[image]],
  ];
}
function enlarge(image) {
  show($("large"), image);
  $("facts").replaceChildren(...facts(image).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)]));
  $("enlarged").showModal();
}

// ---- names: kept in this browser until they are downloaded ----------------------------------------------------------
const stored = "names of " + data.model;
const start = data.clusters.map(({ name, merge, junk }) => ({ name, merge, junk }));
let names = start.map((entry) => ({ ...entry }));
try {
  const kept = JSON.parse(localStorage.getItem(stored));
  if (Array.isArray(kept) && kept.length === names.length) names = kept;
} catch { /* a browser that keeps nothing for files */ }

function end(cluster) { // where merging leads to; a circle cannot be chosen, see `offers`
  const seen = new Set();
  while (names[cluster].merge !== null && !seen.has(cluster)) { seen.add(cluster); cluster = names[cluster].merge; }
  return cluster;
}
function called(cluster) {
  const last = names[end(cluster)];
  return last.junk ? "junk" : last.name.trim() || data.clusters[end(cluster)].called;
}
function asYaml() {
  const lines = names.flatMap(({ name, merge, junk }, cluster) => {
    const value = merge !== null ? `[merge, ${merge}]` : junk ? "junk" : name.trim() ? JSON.stringify(name.trim()) : null;
    return value === null ? [] : [`  ${cluster}: ${value}`];
  });
  return "# Names for clusters, from the page. Put this file beside params.yaml; `dvc repro` then redoes evaluate and report.\n" +
    `model: "${data.model}"\nclusters:${lines.length ? "\n" + lines.join("\n") : " {}"}\n`;
}
function changed() {
  try { localStorage.setItem(stored, JSON.stringify(names)); } catch { /* as above */ }
  refresh();
}
function refresh() {
  let done = 0;
  data.clusters.forEach(({ number }) => {
    const { section, name, merge, junk } = rows[number] ?? {}, entry = names[number];
    if (entry.name.trim() || entry.merge !== null || entry.junk) done++;
    if (!section) return;
    if (document.activeElement !== name) name.value = entry.name;
    name.disabled = entry.junk || entry.merge !== null;
    name.placeholder = entry.merge !== null ? "same as " + called(entry.merge) : entry.junk ? "junk" : data.clusters[number].called;
    junk.checked = entry.junk;
    section.classList.toggle("set-aside", entry.junk || entry.merge !== null);
    merge.value = entry.merge ?? "";
    for (const option of merge.options) if (option.value) option.textContent = "same as " + called(+option.value) + ` (${option.value})`;
  });
  const unsaved = JSON.stringify(names) !== JSON.stringify(start);
  $("progress").textContent = `${done} of ${names.length} groups named` + (unsaved ? " · download and keep it as names.yaml" : "");
  $("forget").hidden = !unsaved;
  for (const chip of document.querySelectorAll(".chips button")) chip.lastChild.textContent = called(+chip.value);
}
function offers(select, cluster) { // every other group, but none that is merged into this one already
  select.replaceChildren(make("option", { value: "" }, "a group of its own"));
  for (const { number } of data.clusters) {
    if (number !== cluster && end(number) !== cluster) select.append(make("option", { value: number }, "same as " + called(number)));
  }
  select.value = names[cluster].merge ?? "";
}

const rows = {};
for (const section of document.querySelectorAll(".group")) {
  const cluster = +section.dataset.cluster;
  const [name, merge, junk] = [section.querySelector("[type=text]"), section.querySelector("select"), section.querySelector("[type=checkbox]")];
  rows[cluster] = { section, name, merge, junk };
  name.addEventListener("input", () => { names[cluster].name = name.value; changed(); });
  name.addEventListener("keydown", (event) => { // Enter goes on to the next group, as in a form
    if (event.key !== "Enter") return;
    event.preventDefault();
    const all = Object.values(rows).map((row) => row.name).filter((field) => !field.disabled);
    const next = all[all.indexOf(name) + 1];
    if (next) { next.focus(); next.closest(".group").scrollIntoView({ block: "start" }); }
  });
  const fill = () => { if (!merge.filled) { merge.filled = true; offers(merge, cluster); } };
  merge.addEventListener("pointerdown", fill);
  merge.addEventListener("focus", () => offers(merge, cluster));
  merge.addEventListener("change", () => {
    names[cluster].merge = merge.value === "" ? null : +merge.value;
    if (merge.value !== "") names[cluster].junk = false;
    changed();
  });
  junk.addEventListener("change", () => {
    names[cluster].junk = junk.checked;
    if (junk.checked) names[cluster].merge = null;
    changed();
  });
  if (names[cluster].merge !== null) offers(merge, cluster);
  for (const [kind, images] of Object.entries(data.clusters[cluster].kinds)) {
    section.querySelector(`[data-kind=${kind}]`)?.append(...images.map(tile));
  }
  whenSeen.observe(section);
}
for (const pair of document.querySelectorAll(".pairs div")) {
  pair.prepend(...JSON.parse(pair.dataset.pair).map(tile));
  whenSeen.observe(pair);
}
$("download").addEventListener("click", () => {
  const link = make("a", { href: URL.createObjectURL(new Blob([asYaml()], { type: "text/yaml" })), download: "names.yaml" });
  document.body.append(link);
  link.click();
  link.remove();
});
$("forget").addEventListener("click", () => { names = start.map((entry) => ({ ...entry })); changed(); });
$("close").addEventListener("click", () => $("enlarged").close());
$("enlarged").addEventListener("click", (event) => { if (event.target === $("enlarged")) $("enlarged").close(); });

// ---- the map --------------------------------------------------------------------------------------------------------
function map() {
  const { x, y, image } = data.map, canvas = $("canvas"), pen = canvas.getContext("2d"), tip = $("tip"), box = $("plane");
  const view = { scale: 1, left: 0, top: 0 }; // of the plane, in units of the canvas' shorter side
  let only = null, near = -1, size = { width: 0, height: 0, side: 1 };
  const hue = (cluster) => data.clusters[cluster].hue;
  const at = (point) => [
    size.width / 2 + ((x[point] - 0.5 - view.left) * view.scale) * size.side,
    size.height / 2 + ((y[point] - 0.5 - view.top) * view.scale) * size.side,
  ];
  function draw() {
    const dense = devicePixelRatio || 1, light = getComputedStyle(document.documentElement).getPropertyValue("--hue-light");
    const ink = getComputedStyle(document.body).color;
    if (canvas.width !== Math.round(size.width * dense)) { canvas.width = Math.round(size.width * dense); }
    if (canvas.height !== Math.round(size.height * dense)) { canvas.height = Math.round(size.height * dense); }
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, size.width, size.height);
    const radius = Math.min(9, 2.6 * Math.sqrt(view.scale) * (x.length < 600 ? 1.5 : 1));
    for (let point = 0; point < x.length; point++) {
      const [left, top] = at(point), cluster = data.images.cluster[image[point]];
      if (left < -9 || top < -9 || left > size.width + 9 || top > size.height + 9) continue;
      pen.globalAlpha = only === null || only === cluster ? 0.85 : 0.08;
      pen.fillStyle = `hsl(${hue(cluster)} 62% ${light})`;
      pen.beginPath(); pen.arc(left, top, radius, 0, 7); pen.fill();
    }
    pen.globalAlpha = 1;
    if (near >= 0) { const [left, top] = at(near); pen.strokeStyle = ink; pen.lineWidth = 2; pen.beginPath(); pen.arc(left, top, radius + 3, 0, 7); pen.stroke(); }
  }
  let waiting = false;
  const redraw = () => { if (!waiting) { waiting = true; requestAnimationFrame(() => { waiting = false; draw(); }); } };
  function point(left, top, reach) { // the nearest point to a place on the canvas
    let best = -1, least = reach * reach;
    for (let i = 0; i < x.length; i++) {
      if (only !== null && data.images.cluster[image[i]] !== only) continue;
      const [a, b] = at(i), distance = (a - left) ** 2 + (b - top) ** 2;
      if (distance < least) { least = distance; best = i; }
    }
    return best;
  }
  function tell(found) {
    near = found;
    if (found >= 0) {
      const [left, top] = at(found), i = image[found], cluster = data.images.cluster[i], truth = data.images.truth[i];
      show(tip.querySelector("i"), i);
      tip.querySelector("span").textContent = `${called(cluster)}, ${percent(data.images.confidence[i])}` + (truth >= 0 ? ` · is ${data.classes[truth]}` : "");
      tip.style.display = "block";
      tip.style.left = Math.max(4, Math.min(left + 14, size.width - tip.offsetWidth - 4)) + "px";
      tip.style.top = Math.max(4, top + 14 + tip.offsetHeight > size.height ? Math.max(4, top - tip.offsetHeight - 14) : top + 14) + "px";
    } else tip.style.display = "none";
    redraw();
  }
  function zoom(factor, left = size.width / 2, top = size.height / 2) { // what is under that place stays there
    const scale = Math.min(60, Math.max(0.8, view.scale * factor));
    const [a, b] = [(left - size.width / 2) / size.side, (top - size.height / 2) / size.side];
    view.left += a / view.scale - a / scale; view.top += b / view.scale - b / scale; view.scale = scale;
    tell(-1);
  }
  const pan = (right, down) => { view.left -= right / (view.scale * size.side); view.top -= down / (view.scale * size.side); tell(-1); };
  const whole = () => { Object.assign(view, { scale: 1, left: 0, top: 0 }); tell(-1); };
  const touches = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); touches.set(event.pointerId, event); moved = 0; });
  canvas.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId);
    if (!before) { if (event.pointerType === "mouse") tell(point(event.offsetX, event.offsetY, 16)); return; }
    const [right, down] = [event.offsetX - before.offsetX, event.offsetY - before.offsetY];
    moved += Math.abs(right) + Math.abs(down);
    if (touches.size === 2) {
      const other = [...touches.values()].find((touch) => touch.pointerId !== event.pointerId);
      const apart = (touch) => Math.hypot(touch.offsetX - other.offsetX, touch.offsetY - other.offsetY) || 1;
      zoom(apart(event) / apart(before), (event.offsetX + other.offsetX) / 2, (event.offsetY + other.offsetY) / 2);
    } else if (moved > 4) pan(right, down);
    touches.set(event.pointerId, event);
  });
  const lift = (event) => {
    if (touches.delete(event.pointerId) && moved <= 4 && event.type === "pointerup") {
      const found = point(event.offsetX, event.offsetY, 24);
      if (event.pointerType !== "mouse" || found < 0) tell(found); else enlarge(image[found]);
    }
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => { if (!touches.size) tell(-1); });
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY * 0.002), event.offsetX, event.offsetY); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const keys = {
      ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0), ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60),
      "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: whole,
      " ": () => tell(point(size.width / 2, size.height / 2, Infinity)), Enter: () => { if (near >= 0) enlarge(image[near]); },
    };
    if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
  });
  $("closer").addEventListener("click", () => zoom(1.6));
  $("farther").addEventListener("click", () => zoom(1 / 1.6));
  $("whole").addEventListener("click", whole);
  for (const { number } of data.clusters.filter((cluster) => cluster.size)) {
    const chip = make("button", { type: "button", value: number, ariaPressed: "false" }, make("i", { className: "dot" }), make("span"));
    chip.style.setProperty("--hue", hue(number));
    chip.addEventListener("click", () => {
      only = only === number ? null : number;
      for (const other of $("chips").children) other.ariaPressed = String(+other.value === only);
      tell(-1);
    });
    $("chips").append(chip);
  }
  new ResizeObserver(() => {
    size = { width: box.clientWidth, height: box.clientHeight, side: 0.94 * Math.min(box.clientWidth, box.clientHeight) };
    redraw();
  }).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
if (data.map) map();
refresh();
document.documentElement.dataset.ready = "yes";
