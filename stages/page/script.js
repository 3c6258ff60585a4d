"use strict";
// What the page does beyond showing text: images from the sheets, names and merges for the groups, the map.
// Images, clusters and classes are meant by their numbers, which are places in the lists of `data`.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)}%`;

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

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
  const sheet = Math.floor(image / data.perSheet);
  const place = image % data.perSheet;
  const onSheet = Math.min(data.perSheet, data.images.place.length - sheet * data.perSheet);
  const rows = Math.ceil(onSheet / data.columns);
  const across = (place % data.columns) / (data.columns - 1);
  const down = rows > 1 ? Math.floor(place / data.columns) / (rows - 1) : 0;
  element.style.backgroundImage = `url(${address(sheet)})`;
  element.style.backgroundSize = `${100 * data.columns}% ${100 * rows}%`;
  element.style.backgroundPosition = `${100 * across}% ${100 * down}%`;
  element.classList.toggle("pixels", data.side <= 32);
}

function showAll({ target }) {
  whenSeen.unobserve(target);
  for (const tile of target.querySelectorAll("[data-image]")) show(tile, +tile.dataset.image);
}
const whenSeen = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach(showAll),
  { rootMargin: "400px" },
);

function isWrong(image) {
  const truth = data.images.truth[image];
  const { matched } = data.clusters[data.images.cluster[image]];
  return truth >= 0 && matched >= 0 && truth !== matched;
}

function makeTile(image) {
  const truth = data.images.truth[image];
  const text = data.images.place[image] + (truth >= 0 ? `, ${data.classes[truth]}` : "");
  const className = isWrong(image) ? "tile wrong" : "tile";
  const button = make("button", { type: "button", className, title: text, ariaLabel: text });
  button.dataset.image = image;
  button.addEventListener("click", () => enlarge(image));
  return button;
}

function facts(image) {
  const { cluster, confidence, margin, place, second, truth } = data.images;
  const next = `${called(second[image])}, ${percent(confidence[image] - margin[image])}`;
  const found = [
    ["group", called(cluster[image])],
    ["probability", percent(confidence[image])],
    ["next", margin[image] < 1 ? next : "–"],
  ];
  if (truth[image] >= 0) found.push(["class", data.classes[truth[image]]]);
  return [...found, [data.files ? "file" : "image", place[image]]];
}

function enlarge(image) {
  const lines = facts(image).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)]);
  show($("large"), image);
  $("facts").replaceChildren(...lines);
  $("enlarged").showModal();
}

for (const pair of document.querySelectorAll(".pairs div")) {
  pair.prepend(...JSON.parse(pair.dataset.pair).map(makeTile));
  whenSeen.observe(pair);
}
$("close").addEventListener("click", () => $("enlarged").close());
$("enlarged").addEventListener("click", (event) => {
  if (event.target === $("enlarged")) $("enlarged").close(); // beside what it holds
});

// ---- names: kept in this browser until they are downloaded ----------------------------------------------------------

const stored = `names of ${data.model}`;
const asGiven = () => data.clusters.map(({ name, merge, junk }) => ({ name, merge, junk }));
let names = kept() ?? asGiven();

function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(stored));
    return Array.isArray(found) && found.length === data.clusters.length ? found : null;
  } catch {
    return null; // a browser that keeps nothing for files
  }
}

function keep() {
  try {
    localStorage.setItem(stored, JSON.stringify(names));
  } catch {
    // as above
  }
}

function change(cluster, values) {
  Object.assign(names[cluster], values);
  keep();
  refresh();
}

// Where merging leads to; a circle cannot be chosen, see `offer`.
function end(cluster) {
  const seen = new Set();
  while (names[cluster].merge !== null && !seen.has(cluster)) {
    seen.add(cluster);
    cluster = names[cluster].merge;
  }
  return cluster;
}

function called(cluster) {
  const last = end(cluster);
  return names[last].junk ? "junk" : names[last].name.trim() || data.clusters[last].called;
}

function yamlValue({ name, merge, junk }) {
  if (merge !== null) return `[merge, ${merge}]`;
  if (junk) return "junk";
  return name.trim() ? JSON.stringify(name.trim()) : null;
}

function asYaml() {
  const lines = names.map(yamlValue).flatMap((value, cluster) => (value === null ? [] : [`\n  ${cluster}: ${value}`]));
  return (
    "# Names for clusters, from the page. Put this file beside params.yaml; " +
    "`dvc repro` then redoes evaluate and report.\n" +
    `model: "${data.model}"\nclusters:${lines.join("") || " {}"}\n`
  );
}

function download() {
  const href = URL.createObjectURL(new Blob([asYaml()], { type: "text/yaml" }));
  const link = make("a", { href, download: "names.yaml" });
  document.body.append(link);
  link.click();
  link.remove();
}

$("download").addEventListener("click", download);
$("forget").addEventListener("click", () => {
  names = asGiven();
  keep();
  refresh();
});

// ---- groups: a form for each ----------------------------------------------------------------------------------------

const forms = Array.from(document.querySelectorAll(".group"), (section) => ({
  section,
  cluster: +section.dataset.cluster,
  name: section.querySelector("[type=text]"),
  merge: section.querySelector("select"),
  junk: section.querySelector("[type=checkbox]"),
}));

// Every other group, but none that is merged into this one already.
function offer(merge, cluster) {
  const others = data.clusters.filter(({ number }) => number !== cluster && end(number) !== cluster);
  const options = others.map(({ number }) => make("option", { value: number }));
  merge.replaceChildren(make("option", { value: "" }, "a group of its own"), ...options);
  refreshMerge(merge, cluster);
}

function refreshMerge(merge, cluster) {
  for (const option of merge.options) {
    if (option.value) option.textContent = `same as ${called(+option.value)} (${option.value})`;
  }
  merge.value = names[cluster].merge ?? "";
}

function refreshForm({ section, cluster, name, merge, junk }) {
  const entry = names[cluster];
  const merged = entry.merge !== null;
  const own = entry.junk ? "junk" : data.clusters[cluster].called;
  if (document.activeElement !== name) name.value = entry.name;
  name.disabled = entry.junk || merged;
  name.placeholder = merged ? `same as ${called(entry.merge)}` : own;
  junk.checked = entry.junk;
  section.classList.toggle("set-aside", entry.junk || merged);
  if (merged && merge.options.length === 1) offer(merge, cluster);
  refreshMerge(merge, cluster);
}

function refresh() {
  const done = names.filter((entry) => yamlValue(entry) !== null).length;
  const unsaved = JSON.stringify(names) !== JSON.stringify(asGiven());
  const hint = unsaved ? " · download and keep it as names.yaml" : "";
  $("progress").textContent = `${done} of ${names.length} groups named${hint}`;
  $("forget").hidden = !unsaved;
  forms.forEach(refreshForm);
  for (const chip of $("chips").children) chip.lastChild.textContent = called(+chip.value);
}

// Enter goes on to the next group, as in a form.
function goOn(event) {
  if (event.key !== "Enter") return;
  event.preventDefault();
  const fields = forms.map((form) => form.name).filter((field) => !field.disabled);
  const next = fields[fields.indexOf(event.target) + 1];
  next?.focus();
  next?.closest(".group").scrollIntoView({ block: "start" });
}

for (const { section, cluster, name, merge, junk } of forms) {
  name.addEventListener("input", () => change(cluster, { name: name.value }));
  name.addEventListener("keydown", goOn);
  // Not before somebody asks: of 400 groups each would have 399 others.
  merge.addEventListener("pointerdown", () => offer(merge, cluster), { once: true });
  merge.addEventListener("focus", () => offer(merge, cluster));
  merge.addEventListener("change", () => {
    change(cluster, merge.value ? { merge: +merge.value, junk: false } : { merge: null });
  });
  junk.addEventListener("change", () => {
    change(cluster, junk.checked ? { merge: null, junk: true } : { junk: false });
  });
  for (const tiles of section.querySelectorAll(".tiles")) {
    tiles.append(...data.clusters[cluster].kinds[tiles.dataset.kind].map(makeTile));
  }
  whenSeen.observe(section);
}

// ---- the map: dots are meant by their places in the lists of `dots` -------------------------------------------------

const dots = data.map;
const plane = $("plane");
const tip = $("tip");
const pen = $("canvas").getContext("2d");
const view = { scale: 1, left: 0, top: 0 }; // of the plane, in units of the canvas' shorter side
const size = { width: 0, height: 0, side: 1 }; // of the canvas; one unit of the plane takes `side` at first
const drawing = { waits: false, only: null, near: -1 }; // `only`: a cluster shown alone; `near`: a dot that is told of
const clusterOf = (dot) => data.images.cluster[dots.image[dot]];
const isHidden = (dot) => drawing.only !== null && drawing.only !== clusterOf(dot);

function position(dot) {
  return [
    size.width / 2 + (dots.x[dot] - 0.5 - view.left) * view.scale * size.side,
    size.height / 2 + (dots.y[dot] - 0.5 - view.top) * view.scale * size.side,
  ];
}

function circle([left, top], radius) {
  pen.beginPath();
  pen.arc(left, top, radius, 0, 2 * Math.PI);
}

function clear() {
  const width = Math.round(size.width * devicePixelRatio);
  const height = Math.round(size.height * devicePixelRatio);
  if (pen.canvas.width !== width) pen.canvas.width = width;
  if (pen.canvas.height !== height) pen.canvas.height = height;
  pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  pen.clearRect(0, 0, size.width, size.height);
}

function drawDots(radius) {
  const light = getComputedStyle(document.documentElement).getPropertyValue("--hue-light");
  for (let dot = 0; dot < dots.x.length; dot++) {
    const [left, top] = position(dot);
    if (left < -9 || top < -9 || left > size.width + 9 || top > size.height + 9) continue;
    pen.globalAlpha = isHidden(dot) ? 0.08 : 0.85;
    pen.fillStyle = `hsl(${data.clusters[clusterOf(dot)].hue} 62% ${light})`;
    circle([left, top], radius);
    pen.fill();
  }
  pen.globalAlpha = 1;
}

function drawRing(radius) {
  pen.strokeStyle = getComputedStyle(document.body).color;
  pen.lineWidth = 2;
  circle(position(drawing.near), radius);
  pen.stroke();
}

function draw() {
  const radius = Math.min(9, 2.6 * Math.sqrt(view.scale) * (dots.x.length < 600 ? 1.5 : 1));
  drawing.waits = false;
  clear();
  drawDots(radius);
  if (drawing.near >= 0) drawRing(radius + 3);
}

function redraw() {
  if (!drawing.waits) requestAnimationFrame(draw);
  drawing.waits = true;
}

// The dot nearest to a place on the canvas, no farther than `reach`; −1 for none.
function nearest(left, top, reach) {
  let found = -1;
  let least = reach;
  for (let dot = 0; dot < dots.x.length; dot++) {
    if (isHidden(dot)) continue;
    const [x, y] = position(dot);
    const distance = Math.hypot(x - left, y - top);
    if (distance < least) [found, least] = [dot, distance];
  }
  return found;
}

function fillTip(image) {
  const { cluster, confidence, truth } = data.images;
  const text = `${called(cluster[image])}, ${percent(confidence[image])}`;
  show(tip.querySelector("i"), image);
  tip.querySelector("span").textContent = text + (truth[image] >= 0 ? ` · is ${data.classes[truth[image]]}` : "");
}

// Beside the dot, where there is room.
function placeTip([left, top]) {
  const right = size.width - tip.offsetWidth - 4;
  const fits = top + 14 + tip.offsetHeight <= size.height;
  tip.style.left = `${Math.max(4, Math.min(left + 14, right))}px`;
  tip.style.top = `${Math.max(4, fits ? top + 14 : top - tip.offsetHeight - 14)}px`;
}

// Show what is at a dot; at −1 nothing is.
function tell(dot) {
  drawing.near = dot;
  tip.style.display = dot < 0 ? "none" : "block";
  if (dot >= 0) {
    fillTip(dots.image[dot]);
    placeTip(position(dot));
  }
  redraw();
}

// What is under that place of the canvas stays there.
function zoom(factor, left = size.width / 2, top = size.height / 2) {
  const scale = Math.min(60, Math.max(0.8, view.scale * factor));
  const shift = (1 / view.scale - 1 / scale) / size.side;
  view.left += (left - size.width / 2) * shift;
  view.top += (top - size.height / 2) * shift;
  view.scale = scale;
  tell(-1);
}

function pan(right, down) {
  view.left -= right / (view.scale * size.side);
  view.top -= down / (view.scale * size.side);
  tell(-1);
}

function showWhole() {
  Object.assign(view, { scale: 1, left: 0, top: 0 });
  tell(-1);
}

const touches = new Map(); // the last event of every finger that is down, or of the mouse
let moved = 0; // how far they went since the last one came down

function press(event) {
  pen.canvas.setPointerCapture(event.pointerId);
  touches.set(event.pointerId, event);
  moved = 0;
}

function move(event) {
  const before = touches.get(event.pointerId);
  if (before) drag(before, event);
  else if (event.pointerType === "mouse") tell(nearest(event.offsetX, event.offsetY, 16));
}

function drag(before, event) {
  const [right, down] = [event.offsetX - before.offsetX, event.offsetY - before.offsetY];
  moved += Math.abs(right) + Math.abs(down);
  if (touches.size === 2) pinch(before, event);
  else if (moved > 4) pan(right, down);
  touches.set(event.pointerId, event);
}

function pinch(before, event) {
  const other = [...touches.values()].find((touch) => touch.pointerId !== event.pointerId);
  const apart = (touch) => Math.hypot(touch.offsetX - other.offsetX, touch.offsetY - other.offsetY) || 1;
  const middle = [(event.offsetX + other.offsetX) / 2, (event.offsetY + other.offsetY) / 2];
  zoom(apart(event) / apart(before), ...middle);
}

function lift(event) {
  const pressed = touches.delete(event.pointerId) && moved <= 4;
  if (!pressed || event.type !== "pointerup") return;
  const dot = nearest(event.offsetX, event.offsetY, 24);
  if (event.pointerType === "mouse" && dot >= 0) enlarge(dots.image[dot]);
  else tell(dot); // a finger did not point before
}

const keys = {
  ArrowLeft: () => pan(60, 0),
  ArrowRight: () => pan(-60, 0),
  ArrowUp: () => pan(0, 60),
  ArrowDown: () => pan(0, -60),
  "+": () => zoom(1.4),
  "=": () => zoom(1.4),
  "-": () => zoom(1 / 1.4),
  0: showWhole,
  " ": () => tell(nearest(size.width / 2, size.height / 2, Infinity)),
  Enter: () => drawing.near >= 0 && enlarge(dots.image[drawing.near]),
};

function pressKey(event) {
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

function turnWheel(event) {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * 0.002), event.offsetX, event.offsetY);
}

function makeChip({ number, hue }) {
  const dot = make("i", { className: "dot" });
  const chip = make("button", { type: "button", value: number, ariaPressed: "false" }, dot, make("span"));
  chip.style.setProperty("--hue", hue);
  chip.addEventListener("click", () => showOnly(drawing.only === number ? null : number));
  return chip;
}

function showOnly(cluster) {
  drawing.only = cluster;
  for (const chip of $("chips").children) chip.ariaPressed = String(+chip.value === cluster);
  tell(-1);
}

function measure() {
  size.width = plane.clientWidth;
  size.height = plane.clientHeight;
  size.side = 0.94 * Math.min(size.width, size.height);
  redraw();
}

pen.canvas.addEventListener("pointerdown", press);
pen.canvas.addEventListener("pointermove", move);
pen.canvas.addEventListener("pointerup", lift);
pen.canvas.addEventListener("pointercancel", lift);
pen.canvas.addEventListener("pointerleave", () => !touches.size && tell(-1));
pen.canvas.addEventListener("wheel", turnWheel, { passive: false });
pen.canvas.addEventListener("keydown", pressKey);
$("closer").addEventListener("click", () => zoom(1.6));
$("farther").addEventListener("click", () => zoom(1 / 1.6));
$("whole").addEventListener("click", showWhole);
$("chips").append(...data.clusters.filter((cluster) => cluster.size).map(makeChip));
new ResizeObserver(measure).observe(plane);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

refresh();
document.documentElement.dataset.ready = "yes";
