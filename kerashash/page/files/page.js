"use strict";

const byId = (id) => document.getElementById(id);
let info = null;
let asked = null; // what is searched for: {file}, {id} or {duplicates: true}
let turn = 0; // answers that come after a later question are dropped
// The history has numbers of files, which are of one visit: once the page is loaded
// anew, the files are gone.
const visit = Date.now();
const files = [];

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function say(text, wrong = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("wrong", wrong);
}

async function answer(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer.");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error || `The server answers ${response.status}.`);
  return body;
}

// One question at a time: `work` returns what shows the answer.
async function ask(work) {
  const mine = ++turn;
  say("Searching…");
  byId("results").setAttribute("aria-busy", "true");
  try {
    const show = await work();
    if (mine === turn) show();
  } catch (error) {
    if (mine === turn) empty(error.message, true);
  } finally {
    if (mine === turn) byId("results").removeAttribute("aria-busy");
  }
}

// Nothing is found, or searched for.
function empty(text, wrong) {
  byId("results").replaceChildren();
  byId("query").hidden = true;
  say(text, wrong);
}

const url = (id, side) => `/v1/photograph?side=${side}&id=${encodeURIComponent(id)}`;
const short = (id) => String(id).split("/").pop();
// A file's name may have letters that run from right to left, and turn those around it.
const isolated = (text) => element("bdi", {}, text);
const many = (count, thing) =>
  `${count.toLocaleString("en")} ${thing}${count === 1 ? "" : "s"}`;

function card(id, caption) {
  const image = element("img", { alt: short(id), loading: "lazy" });
  if (info.photographs) image.src = url(id, 320);
  const button = element("button", { type: "button", title: `Search for ${id}` },
    element("figure", {}, image, element("figcaption", {}, ...caption)));
  button.addEventListener("click", () => open({ id }));
  return element("li", {}, button);
}

function search() {
  if (!asked) {
    say("Choose a photograph first.", true);
    return;
  }
  if (asked.duplicates) {
    findDuplicates();
    return;
  }
  if (!byId("form").reportValidity()) {
    say("Correct the number of results, or of bits.", true);
    return;
  }
  const { file, id } = asked;
  const options = { k: byId("k").value };
  if (byId("radius").value) options.radius = byId("radius").value;
  ask(async () => {
    if (file && file.size > info.limits.upload) {
      throw new Error(`A photograph must have at most ${info.limits.upload / 1e6} MB. ` +
        `${file.name} has ${(file.size / 1e6).toFixed(1)}.`);
    }
    const content = file && await file.arrayBuffer().catch(() => {
      throw new Error(`${file.name} cannot be read, or not any more.`);
    });
    const body = await answer(`/v1/search?${new URLSearchParams(options)}`, file
      ? { method: "POST", headers: { "Content-Type": "application/octet-stream" }, body: content }
      : { method: "POST", headers: { "Content-Type": "application/json" },
          body: JSON.stringify({ id }) });
    return () => showResults(body, file, id);
  });
}

function showResults(body, file, id) {
  const { hex, bits } = body.code;
  const picture = byId("picture");
  if (picture.src.startsWith("blob:")) URL.revokeObjectURL(picture.src);
  picture.alt = `The photograph searched for: ${file ? file.name : short(id)}`;
  picture.src = file ? URL.createObjectURL(file) : url(id, 320);
  picture.hidden = !file && !info.photographs;
  byId("name").textContent = file ? file.name : id;
  byId("bits").setAttribute("aria-label", `Its code of ${bits.length} bits: ${bits}`);
  byId("bits").replaceChildren(
    ...[...bits].map((bit) => element("i", { className: bit === "1" ? "one" : "" })));
  byId("code").textContent = hex;
  byId("query").hidden = false;
  const list = element("ol", { className: "photographs" });
  for (const row of body.neighbours) {
    const distance = element("strong", {}, many(row.distance, "bit"));
    list.append(card(row.id, [distance, " ", isolated(short(row.id))]));
  }
  byId("results").replaceChildren(list);
  const count = body.neighbours.length;
  say(count
    ? `${many(count, "photograph")} in ${body.milliseconds.total.toFixed(0)} ms, nearest first.`
    : "No photograph is that near. Allow more bits.");
}

function findDuplicates() {
  const radius = byId("radius").value || "0";
  ask(async () => {
    const body = await answer(`/v1/duplicates?${new URLSearchParams({ radius })}`);
    return () => {
      byId("query").hidden = true;
      byId("results").replaceChildren(...body.groups.flatMap(({ size, ids }) => [
        element("h2", {}, many(size, "photograph") + (size > ids.length ? `, ${ids.length} shown` : "")),
        element("ol", { className: "photographs" }, ...ids.map((id) => card(id, [isolated(short(id))]))),
      ]));
      const more = body.count > body.groups.length ? `, ${body.groups.length} shown` : "";
      const near = radius === "0" ? "equal codes" : `codes that differ in at most ${many(+radius, "bit")}`;
      say(body.count
        ? `${many(body.count, "group")} with ${near}${more}.`
        : `No two photographs have ${near}.`);
    };
  });
}

// Every question has its place in the history, so that the browser's Back goes back.
// Those for rows have addresses too.
function open(next) {
  asked = next;
  const hash = next.id === undefined ? "" : `#${encodeURIComponent(JSON.stringify(next.id))}`;
  const { duplicates } = next;
  const state = next.file ? { visit, number: files.push(next.file) - 1 } : { duplicates };
  history.pushState(state, "", location.pathname + hash);
  search();
  window.scrollTo({ top: 0 });
}

// What the address and the history ask for; null at the start.
function inAddress() {
  const { visit: of, number, duplicates } = history.state || {};
  if (duplicates) return { duplicates };
  if (of === visit) return { file: files[number] };
  if (location.hash.length < 2) return null;
  try {
    const id = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    return typeof id === "string" || Number.isInteger(id) ? { id } : null;
  } catch {
    return null;
  }
}

function fromAddress() {
  asked = inAddress();
  if (asked) {
    search();
    return;
  }
  turn++; // what is on its way is no longer asked for
  byId("results").removeAttribute("aria-busy");
  empty("");
}

async function start() {
  try {
    info = await answer("/v1/info");
  } catch (error) {
    say(error.message, true);
    return;
  }
  byId("k").max = info.limits.k;
  byId("k").value = Math.min(byId("k").value, info.limits.k) || 1;
  byId("radius").max = info.bits;
  const by = info.model ? ` by ${info.model.name}` : "";
  byId("store").replaceChildren(isolated(info.store),
    `: ${many(info.count, "photograph")}, codes of ${info.bits} bits${by}`);
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  byId("file").addEventListener("change", (event) => {
    if (event.target.files.length) open({ file: event.target.files[0] });
    event.target.value = ""; // so that the same file can be chosen again
  });
  byId("duplicates").addEventListener("click", () => {
    if (asked?.duplicates) search();
    else open({ duplicates: true });
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      byId("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) {
        open({ file: event.dataTransfer.files[0] });
      }
    });
  }
  window.addEventListener("popstate", fromAddress);
  document.documentElement.dataset.ready = "true";
  fromAddress();
}

start();
