// Draws the report from the JSON in the page. Text of documents goes through textContent and nothing else.
"use strict";
const page = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const count = (n) => n.toLocaleString("en-US");
const share = (part, whole) => (whole ? (part === 0 ? "0%" : part / whole < 0.0005 ? "<0.1%" : `${((100 * part) / whole).toFixed(1)}%`) : "–");
const short = (n) => {
  if (n === null) return "–";
  for (const [size, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) if (n >= size) return `${(n / size).toFixed(n / size < 100 ? 1 : 0).replace(/[.]0$/, "")} ${unit}`;
  return String(Math.round(n));
};
const bytes = (n) => short(n).replace(/ ?([kMBT]?)$/, (_, u) => ` ${u === "B" ? "G" : u}B`);
const seconds = (s) => (s < 60 ? `${s.toFixed(1)} s` : s < 3600 ? `${Math.floor(s / 60)} min ${Math.round(s % 60)} s` : `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`);
const sum = (list) => list.reduce((a, b) => a + b, 0);

function make(tag, options, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(options || {})) {
    if (key === "class") node.className = value;
    else if (key === "on") for (const [event, call] of Object.entries(value)) node.addEventListener(event, call);
    else if (key === "style") Object.assign(node.style, value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
function draw(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function fill(id, ...children) { // draws anew what holds buttons: the one at the same place keeps the focus
  const buttons = () => [...$(id).querySelectorAll("button")], held = buttons().indexOf(document.activeElement);
  $(id).replaceChildren(...children);
  if (held >= 0 && buttons()[held]) buttons()[held].focus({ preventScroll: true });
}
const plain = (x) => (Math.abs(x) >= 1000 ? short(Math.round(x)).replace(" ", "") : String(Number(x.toPrecision(3))));
function ticks(low, high) {
  const step = 10 ** Math.floor(Math.log10((high - low) / 3)), by = [5, 2, 1].map((k) => k * step).find((k) => (high - low) / k >= 3) || step;
  const found = [];
  for (let x = Math.ceil(low / by) * by; x <= high + by * 1e-6; x += by) found.push(Math.abs(x) < by / 1e6 ? 0 : x);
  return found;
}

const HIDDEN = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069])/;
function visible(text) { // control characters that could reorder or hide text are written out
  return text.replace(/\r(?=\n|$)/g, "").split(HIDDEN).filter((part) => part).map((part) => (HIDDEN.test(part) ? make("span", { class: "ctrl" }, `U+${part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`) : document.createTextNode(part)));
}

function tabs(id, names, current, open) {
  fill(id, ...names.map((name, i) => make("button", { role: "tab", type: "button", "aria-selected": String(i === current), on: { click: () => open(i) } }, name)));
  $(id).hidden = names.length < 2;
}
const track = (part, whole, kind) => make("div", { class: "track" }, make("div", { class: kind, style: { width: `${(100 * part) / Math.max(1, whole)}%` } }));
const numbers = (...texts) => texts.map((text) => make("span", { class: "num" }, text));
function hunks(pieces) { // a row of both sides for each stretch between what is left out
  const out = [], fold = (text) => make("div", { class: "fold" }, text);
  let sides = null;
  if (pieces.every(([kind]) => kind === "same" || kind === "skipped")) out.push(fold("the texts are the same"));
  for (const [kind, text] of pieces) {
    if (kind === "skipped" || kind === "rest") { sides = null; out.push(fold(kind === "skipped" ? `${count(Number(text))} characters are the same` : `${count(Number(text))} more characters are not shown`)); continue; }
    if (!sides) { sides = [make("div", { dir: "auto" }), make("div", { dir: "auto" })]; out.push(make("div", { class: "hunk" }, ...sides)); }
    if (kind.startsWith("more")) { sides[kind === "more_kept" ? 0 : 1].append(make("span", { class: "more" }, ` … ${count(Number(text))} more characters `)); continue; }
    if (kind !== "dropped") sides[0].append(...(kind === "kept" ? [make("del", {}, ...visible(text))] : visible(text)));
    if (kind !== "kept") sides[1].append(...(kind === "dropped" ? [make("ins", {}, ...visible(text))] : visible(text)));
  }
  return out;
}

$("theme").addEventListener("click", () => {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
