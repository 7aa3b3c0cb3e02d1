"use strict";
// Plays a story back. All texts go through textContent: what a partner answered stays text.
const story = JSON.parse(document.getElementById("story").textContent);
const byId = (id) => document.getElementById(id);
const AXIS = 30, BAND_HIGH = 17, MARGIN = 30, GAP_SECONDS = 10;
const narrow = matchMedia("(max-width: 46rem)"); // there a name stands above its row, as in page.css
const ROOMY = { lane: 58, track: 22, band: 37 }, STACKED = { lane: 80, track: 41, band: 58 };
const ORDER = ["caller", "api", "queue", "database", "worker", "partner", "operator", "faults"];
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const rows = [...byId("log").children];
let sizes = ROOMY, shown = [], lanes = [], places = [], moments = [], at = 0, timer = null;

const svg = (name, attributes, parent, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
};

const element = (name, text, parent, className) => {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  if (parent) parent.append(made);
  return made;
};

const duration = (seconds) => {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 120) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${(seconds / 86400).toFixed(1)} days`;
};

const rank = (actor) => {
  const place = ORDER.indexOf(actor.replace(/ \d+$/, ""));
  return place < 0 ? ORDER.length - 2 : place;
};
const number = (actor) => Number((actor.match(/ (\d+)$/) || [0, 0])[1]);
const lane = (actor) => lanes.indexOf(actor);
const topOf = (actor) => AXIS + lane(actor) * sizes.lane;
const trackOf = (actor) => topOf(actor) + sizes.track;
const placeOf = (event) => (event.kind === "arrival" && event.to) || event.actor; // an arrival is drawn where it arrives
const isProof = (event) => event.kind === "arrival" && story.broken.some((broken) => broken.delivery && broken.delivery === event.delivery);

// The events of one delivery, or of all; what concerns none of them is always shown.
function choose() {
  sizes = narrow.matches ? STACKED : ROOMY;
  const delivery = byId("filter").value;
  const now = shown[at];
  shown = story.events.map((_, place) => place).filter((place) => {
    const event = story.events[place];
    return !delivery || event.delivery === null || event.delivery === delivery;
  });
  const actors = new Set();
  for (const place of shown) {
    const event = story.events[place];
    for (const actor of [event.actor, event.to, ...Object.keys(event.knows)]) if (actor) actors.add(actor);
  }
  lanes = [...actors].sort((one, other) => rank(one) - rank(other) || number(one) - number(other) || (one < other ? -1 : 1));
  rows.forEach((row, place) => { row.hidden = !shown.includes(place); });
  byId("slider").max = Math.max(0, shown.length - 1);
  measure();
  remember(delivery);
  draw(delivery);
  go(Math.max(0, shown.findLastIndex((place) => place <= (now ?? 0))));
}

// Where each event stands: next to the one before it, further off the longer the time between them, up to a limit.
function measure() {
  places = [];
  let x = MARGIN, before = null;
  for (const place of shown) {
    const { seconds } = story.events[place];
    const gap = before === null ? 0 : seconds - before;
    if (before !== null) x += gap > GAP_SECONDS ? 112 : 34 + 12 * Math.log10(1 + gap * 100);
    places.push(x);
    before = seconds;
  }
}

// What each actor knows after each event; with all deliveries shown, what it knows of the one that the event is about.
function remember(filter) {
  const known = new Map();
  let about = null;
  moments = shown.map((place) => {
    const event = story.events[place];
    if (event.delivery !== null) about = event.delivery;
    for (const [actor, text] of Object.entries(event.knows)) {
      if (!known.has(actor)) known.set(actor, new Map());
      known.get(actor).set(filter || event.delivery, text);
    }
    const several = !filter && Object.keys(story.names).length > 1;
    const moment = new Map();
    for (const [actor, texts] of known) {
      const key = filter || (texts.has(about) ? about : null);
      if (texts.has(key)) moment.set(actor, several && key ? `${story.names[key]}: ${texts.get(key)}` : texts.get(key));
    }
    return moment;
  });
}

function draw(filter) {
  const picture = byId("picture"), wide = Math.max((places.at(-1) ?? 0) + 2 * MARGIN, byId("scroller").clientWidth), high = AXIS + lanes.length * sizes.lane;
  picture.replaceChildren();
  picture.setAttribute("width", wide);
  picture.setAttribute("height", high);
  byId("actors").replaceChildren(...lanes.map((actor) => {
    const made = element("div", undefined, null, "actor");
    element("b", actor, made);
    element("span", "", made);
    return made;
  }));
  lanes.forEach((actor, row) => {
    if (row % 2) svg("rect", { class: "stripe", x: 0, y: topOf(actor), width: wide, height: sizes.lane }, picture);
    svg("path", { class: "rule", d: `M0 ${topOf(actor)}H${wide}` }, picture);
    svg("path", { class: "track", d: `M0 ${trackOf(actor)}H${wide}` }, picture);
  });
  axis(picture, high);
  const single = filter || Object.keys(story.names).length <= 1;
  const parts = single ? lanes.flatMap((actor) => bands(actor, wide)) : [];
  parts.forEach((part) => band(part, picture));
  svg("path", { class: "cursor", id: "cursor" }, picture);
  shown.forEach((place, index) => arrow(story.events[place], places[index], picture));
  parts.forEach((part) => words(part, picture));
  shown.forEach((place, index) => mark(story.events[place], place, index, picture));
  svg("rect", { class: "veil", id: "veil", y: AXIS, height: high - AXIS }, picture);
  svg("circle", { class: "ring", id: "ring", r: 15 }, picture);
}

// Along an actor's row: what it knows, from the event that taught it to the next one.
function bands(actor, wide) {
  const begins = [];
  moments.forEach((moment, index) => {
    const text = moment.get(actor) ?? "";
    if (text !== (begins.at(-1)?.text ?? "")) begins.push({ text, x: places[index], y: topOf(actor) + sizes.band });
  });
  return begins.map((begin, index) => ({ ...begin, wide: (begins[index + 1]?.x ?? wide) - begin.x })).filter((part) => part.text);
}

function band({ text, x, y, wide }, picture) {
  const made = svg("rect", { class: "band", x, y, width: wide, height: BAND_HIGH }, picture);
  svg("title", {}, made, text);
}

function words({ text, x, y, wide }, picture) {
  if (wide < 32) return;
  const inside = svg("svg", { class: "words", x, y, width: wide - 2, height: BAND_HIGH }, picture);
  svg("text", { x: 5, y: 12.5 }, inside, text);
}

function axis(picture, high) {
  let free = -Infinity;
  shown.forEach((place, index) => {
    const event = story.events[place], x = places[index];
    const gap = index ? event.seconds - story.events[shown[index - 1]].seconds : 0;
    if (gap > GAP_SECONDS) {
      const middle = (x + places[index - 1]) / 2;
      let path = `M${middle - 4} ${AXIS}`;
      for (let y = AXIS, side = 1; y < high; y += 10, side = -side) path += `L${middle + 4 * side} ${Math.min(y + 10, high)}`;
      svg("path", { class: "gap", d: path }, picture);
      svg("text", { x: middle, y: AXIS - 3, class: "tick", "text-anchor": "middle" }, picture, duration(gap));
    }
    const shownTime = event.clock.replace(/\.000$/, "");
    if (x < free && !(gap > GAP_SECONDS)) return;
    svg("text", { x: x - 8, y: 12, class: "tick" }, picture, shownTime);
    free = x + shownTime.length * 7 + 16;
  });
}

function arrow(event, x, picture) {
  if (!event.to || lane(event.to) === lane(event.actor)) return;
  const from = trackOf(event.actor), down = trackOf(event.to) > from ? 1 : -1;
  const to = trackOf(event.to) - (event.kind === "arrival" ? 17 * down : 0); // its mark is there
  svg("path", { class: "edge", d: `M${x} ${from}V${to - 8 * down}` }, picture);
  svg("path", { class: "head", d: `M${x} ${to}L${x - 5} ${to - 10 * down}H${x + 5}Z` }, picture);
}

function mark(event, place, index, picture) {
  const x = places[index], y = trackOf(placeOf(event));
  const made = svg("g", { class: "mark", "data-event": place + 1 }, picture);
  if (event.kind === "fault") svg("path", { class: "shape fault", d: `M${x} ${y - 15}L${x + 15} ${y} ${x} ${y + 15} ${x - 15} ${y}Z` }, made);
  else if (event.kind === "arrival") svg("rect", { class: "shape arrival", x: x - 11, y: y - 11, width: 22, height: 22 }, made);
  else svg("circle", { class: "shape", cx: x, cy: y, r: 11 }, made);
  if (isProof(event)) svg("rect", { class: "proof", x: x - 16, y: y - 16, width: 32, height: 32 }, made);
  const filled = event.kind === "fault" || event.kind === "arrival";
  svg("text", { class: filled ? "number on" : "number", x, y: y + 4 }, made, place + 1);
  svg("title", {}, made, `${event.clock}  ${event.actor}${event.to ? ` → ${event.to}` : ""}: ${event.text}`);
  made.addEventListener("click", () => { pause(); go(index); });
}

function go(index) {
  if (!shown.length) return;
  at = Math.min(Math.max(index, 0), shown.length - 1);
  const place = shown[at], event = story.events[place], x = places[at], high = AXIS + lanes.length * sizes.lane;
  byId("slider").value = at;
  byId("slider").setAttribute("aria-valuetext", `event ${place + 1}, ${event.clock}`);
  say(event, place);
  know(event);
  const wide = Number(byId("picture").getAttribute("width"));
  byId("veil").setAttribute("x", x + 17);
  byId("veil").setAttribute("width", Math.max(0, wide - x - 17));
  byId("cursor").setAttribute("d", `M${x} ${AXIS}V${high}`);
  byId("ring").setAttribute("cx", x);
  byId("ring").setAttribute("cy", trackOf(placeOf(event)));
  byId("ring").setAttribute("r", event.kind === "fault" || event.kind === "arrival" ? 20 : 15);
  const view = byId("scroller");
  view.scrollTo({ left: x - view.clientWidth / 2, behavior: calm || timer ? "auto" : "smooth" });
  rows.forEach((row, other) => {
    row.classList.toggle("current", other === place);
    row.classList.toggle("later", other > place);
    if (other === place) row.setAttribute("aria-current", "step");
    else row.removeAttribute("aria-current");
  });
  history.replaceState(null, "", `#${place + 1}`);
}

function say(event, place) {
  const now = byId("now");
  now.className = `is-${event.kind === "fault" || event.kind === "arrival" ? event.kind : "step"}`;
  now.replaceChildren();
  const since = at ? `, ${duration(event.seconds - story.events[shown[at - 1]].seconds)} after the event before` : "";
  const about = event.delivery && Object.keys(story.names).length > 1 ? `, delivery ${story.names[event.delivery]}` : "";
  element("span", `Event ${place + 1} (${at + 1} of ${shown.length}), at ${event.clock}${since}${about}`, now, "where");
  element("b", event.actor, now);
  now.append(event.to ? " → " : ": ");
  if (event.to) { element("b", event.to, now); now.append(": "); }
  element("bdi", event.text, now);
}

function know(event) {
  [...byId("actors").children].forEach((box, row) => {
    const actor = lanes[row], text = moments[at].get(actor) ?? "";
    box.lastChild.textContent = text;
    box.title = text;
    box.classList.toggle("acts", actor === event.actor || actor === event.to);
    box.classList.toggle("learns", actor in event.knows);
  });
}

function pause() {
  clearInterval(timer);
  timer = null;
  byId("play").textContent = "Play";
}

function play() {
  if (timer) return pause();
  if (at === shown.length - 1) go(0);
  byId("play").textContent = "Pause";
  timer = setInterval(() => { go(at + 1); if (at === shown.length - 1) pause(); }, Number(byId("speed").value));
}

const step = (by) => { pause(); go(at + by); };
const KEYS = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => step(-Infinity), End: () => step(Infinity), " ": play };
document.addEventListener("keydown", (pressed) => {
  const action = KEYS[pressed.key], inside = pressed.target.localName;
  if (!action || pressed.altKey || pressed.ctrlKey || pressed.metaKey || inside === "select") return;
  if (pressed.key === " " && (inside === "button" || inside === "summary")) return; // it presses what has the focus
  pressed.preventDefault();
  action();
});
byId("first").addEventListener("click", () => step(-Infinity));
byId("back").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("last").addEventListener("click", () => step(Infinity));
byId("play").addEventListener("click", play);
byId("slider").addEventListener("input", (changed) => { pause(); go(Number(changed.target.value)); });
byId("filter").addEventListener("change", () => { pause(); choose(); });
byId("speed").addEventListener("change", pause);

// A link to an event, #12, shows it, whatever is filtered.
function follow() {
  const place = Number(location.hash.slice(1)) - 1;
  if (!story.events[place]) return;
  if (!shown.includes(place)) { byId("filter").value = ""; choose(); }
  pause();
  go(shown.indexOf(place));
}
addEventListener("hashchange", follow);
narrow.addEventListener("change", choose);

if (story.events.length) {
  byId("player").hidden = false;
  const ids = Object.keys(story.names), first = story.broken.find((broken) => broken.delivery in story.names)?.delivery;
  const option = (value, text) => { const made = element("option", text, byId("filter")); made.value = value; };
  option("", "all");
  for (const id of ids) option(id, story.names[id]);
  byId("which").hidden = ids.length < 2;
  byId("filter").value = ids.length > 1 && first ? first : "";
  const asked = location.hash;
  choose();
  if (asked) { history.replaceState(null, "", asked); follow(); }
}
