// The list of conversations.
import { $, arrange, copyOf } from "./dom.js";

const DAY = 86_400_000;
const asClock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const asDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export class Sidebar {
  #items = new Map(); // id: its item
  #list = $("list");
  #shown = new WeakMap(); // item: what it shows
  #renaming = null;
  #removedAt = -Infinity;

  /** @param page {chats, pathOf(id), go(id), leave(id), currentId(), told(call), titleOf(session)}. */
  constructor(page) {
    this.page = page;
    $("search").addEventListener("input", () => this.draw());
    $("search").addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") this.#list.querySelector("a")?.focus();
    });
    $("more").addEventListener("click", async () => {
      $("more").disabled = true;
      await page.told(page.chats.more());
      $("more").disabled = false;
    });
    this.#list.addEventListener("click", (event) => this.#clicked(event));
    this.#list.addEventListener("keydown", (event) => this.#moved(event));
  }

  draw() {
    const { chats } = this.page;
    const wanted = $("search").value.trim();
    const sessions = wanted ? chats.search(wanted) : chats.list;
    const before = this.#items;
    this.#items = new Map();
    for (const session of sessions) this.#items.set(session.session_id, this.#updated(before.get(session.session_id), session));
    if (!this.#renaming) arrange(this.#list, [...this.#items.values()]);
    $("nothing").hidden = sessions.length > 0;
    $("nothing").textContent = wanted ? "Nothing found." : "Your conversations will be here, and stay.";
    $("more").hidden = !chats.hasMore || wanted !== "";
  }

  /** The item of a session. It is only touched where it shows something else. */
  #updated(item, { session_id, title, updated_at, pending }) {
    item ??= copyOf("t-item");
    const isCurrent = session_id === this.page.currentId();
    const name = this.page.titleOf({ session_id, title });
    const shown = JSON.stringify([session_id, name, updated_at, pending, isCurrent]);
    if (this.#shown.get(item) === shown) return item;
    this.#shown.set(item, shown);
    const link = item.querySelector("a");
    item.dataset.id = session_id;
    link.href = this.page.pathOf(session_id);
    item.querySelector(".name").textContent = name;
    item.querySelector("small").textContent = pending ? "not saved yet" : moment(updated_at);
    item.querySelector(".rename").ariaLabel = `Rename: ${name}`;
    item.querySelector(".delete").ariaLabel = `Delete: ${name}`;
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    return item;
  }

  #clicked(event) {
    const item = event.target.closest("li");
    if (!item) return;
    // A second press on what has gone. Not all browsers count presses on a touch screen, and a key has none.
    const isSecondHalf = event.detail > 0 && performance.now() - this.#removedAt < 500;
    if (isSecondHalf) event.preventDefault();
    else if (event.target.closest(".rename")) this.#rename(item);
    else if (event.target.closest(".delete")) this.#remove(item);
    else if (event.target.closest("a") && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      this.page.go(item.dataset.id);
    }
  }

  #moved(event) {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    const item = event.target.closest("li");
    if (!step || !item || event.target.tagName === "INPUT") return;
    event.preventDefault();
    (item[step]?.querySelector("a") ?? (step === "previousElementSibling" ? $("search") : event.target)).focus();
  }

  #rename(item) {
    const link = item.querySelector("a");
    const field = document.createElement("input");
    field.value = item.querySelector(".name").textContent;
    field.ariaLabel = "New title";
    field.maxLength = 200;
    field.dir = "auto";
    link.hidden = true;
    item.prepend(field);
    this.#renaming = item;
    field.select();
    const close = (isKept) => {
      if (this.#renaming !== item) return;
      this.#renaming = null;
      const title = field.value.trim();
      field.remove();
      link.hidden = false;
      link.focus();
      if (isKept && title && title !== item.querySelector(".name").textContent) this.page.told(this.page.chats.rename(item.dataset.id, title));
      this.draw();
    };
    field.addEventListener("blur", () => close(true));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) close(true);
      if (event.key !== "Escape") return;
      event.stopPropagation();
      close(false);
    });
  }

  #remove(item) {
    const next = item.nextElementSibling ?? item.previousElementSibling;
    const { id } = item.dataset;
    this.#removedAt = performance.now();
    this.page.told(this.page.chats.remove(id));
    if (id === this.page.currentId()) this.page.leave(id);
    (next?.querySelector("a") ?? $("new")).focus();
  }
}

function moment(time) {
  if (!time) return "";
  const date = new Date(time);
  const isToday = new Date().toDateString() === date.toDateString();
  if (isToday) return asClock.format(date);
  if (Date.now() - date < 2 * DAY && new Date(Date.now() - DAY).toDateString() === date.toDateString()) return "Yesterday";
  return asDay.format(date);
}
