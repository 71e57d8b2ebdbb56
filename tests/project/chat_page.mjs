// The page of examples/chat in Node: its script, with the few things of a browser that it uses.
// node chat_page.mjs URL [SESSION] takes "send TEXT", "stop" and "new" by line, and tells each state of the page as JSON.
import { readFileSync, writeFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [base, session] = process.argv.slice(2);
const folder = new URL("../../examples/chat/static/", import.meta.url);

class Element {
  children = [];
  listeners = {};
  className = "";
  value = "";
  #is = { hidden: false, disabled: false };

  get hidden() { return this.#is.hidden; }
  set hidden(is) { this.#is.hidden = is; tell(); }
  get disabled() { return this.#is.disabled; }
  set disabled(is) { this.#is.disabled = is; tell(); }
  get textContent() { return this.children.map((child) => child.textContent ?? child).join(""); }
  set textContent(text) { this.replaceChildren(text); }
  get classList() { return { remove: (name) => { this.className = this.className.replace(name, "").trim(); } }; }
  append(...nodes) {
    for (const node of nodes) if (node instanceof Element) node.parent = this;
    this.children.push(...nodes);
    tell();
  }
  replaceChildren(...nodes) { this.children = []; this.append(...nodes); }
  remove() { this.parent.children = this.parent.children.filter((child) => child !== this); tell(); }
  addEventListener(kind, listener) { this.listeners[kind] = listener; }
  fire(kind) { return this.listeners[kind]({ preventDefault() {} }); }
  scrollIntoView() {}
  focus() {}
}

const page = readFileSync(new URL("index.html", folder), "utf8");
const kept = new Map(session ? [["session", session]] : []);
const elements = {};
for (const [, id] of page.matchAll(/ id="(\w+)"/g)) elements[id] = new Element();

function tell() {
  if (!elements.send) return; // the last one
  const { messages, problem, stop, send } = elements;
  const shown = messages.children.map((item) => [item.className, item.textContent, item.ariaBusy === "true"]);
  const state = { messages: shown, problem: problem.textContent, stop: !stop.hidden, send: !send.disabled };
  process.stdout.write(JSON.stringify({ ...state, session: kept.get("session") ?? null }) + "\n");
}

elements.stop.hidden = true;
globalThis.document = { getElementById: (id) => elements[id], createElement: () => new Element() };
globalThis.localStorage = {
  getItem: (name) => kept.get(name) ?? null,
  setItem: (name, value) => kept.set(name, value),
  removeItem: (name) => kept.delete(name),
};
const fetched = globalThis.fetch;
globalThis.fetch = (path, options) => fetched(base + path, options);

const script = page.match(/<script type="module">(.*)<\/script>/s)[1];
const file = join(tmpdir(), `chat-page-${process.pid}.mjs`);
writeFileSync(file, script.replace('"/static/replies.js"', JSON.stringify(new URL("replies.js", folder).href)));
await import(pathToFileURL(file).href);

for await (const line of createInterface({ input: process.stdin })) {
  const [word, ...rest] = line.split(" ");
  if (word === "send") {
    elements.text.value = rest.join(" ");
    elements.form.fire("submit");
  } else {
    elements[word].fire("click");
  }
}
process.exit(0);
