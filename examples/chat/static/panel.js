// "What is happening": the facts behind the page, to be watched while something is broken.
import { $ } from "./dom.js";

const EVERY_MS = 1000;
const DRAWN_EACH_MS = 250;
const KEPT = 30;
const TAKEN_OVER = { interrupted: "had died", stopped: "was stopped", superseded: "was overtaken" };
const asClock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export class Panel {
  #timers = [];
  #health = null;
  #lease = null; // {of: the chat, holder, until, before: who had it before}. Without a holder nobody has the turn
  #last = {};
  #values = new Map(); // name of a fact: the element that shows it

  /** @param page {chats, chat(), sessions, root, narrow}. On a narrow screen it begins closed, as it hides the conversation. */
  constructor(page) {
    this.page = page;
    $("open-panel").addEventListener("click", () => this.show($("panel").hidden));
    $("close-panel").addEventListener("click", () => {
      this.show(false);
      $("open-panel").focus();
    });
    if (sessionStorage.getItem("panel") && !page.narrow.matches) this.show(true);
  }

  get isOpen() {
    return !$("panel").hidden;
  }

  show(is) {
    $("panel").hidden = !is;
    $("open-panel").ariaExpanded = String(is);
    if (is) sessionStorage.setItem("panel", "open");
    else sessionStorage.removeItem("panel");
    for (const timer of this.#timers) clearInterval(timer);
    if (!is) return;
    this.#timers = [setInterval(() => this.#look(), EVERY_MS), setInterval(() => this.draw(), DRAWN_EACH_MS)];
    this.#look();
  }

  async #look() {
    this.#health = await asked(`${this.page.sessions}/health`);
    await this.#lookAtLease();
    this.draw();
  }

  /** Ask who has the turn. Without an answer the last one counts on, as the lease does. */
  async #lookAtLease() {
    const chat = this.page.chat();
    if (this.#lease?.of !== chat) this.#lease = null;
    if (chat.state !== "ready" || chat.id.startsWith("local-")) return;
    const found = await asked(`${this.page.root}lease/${encodeURIComponent(chat.id)}`);
    if (!found || found.status || chat !== this.page.chat()) return;
    const { holder, remaining_ms = 0 } = found;
    const { holder: known, before } = this.#lease ?? {};
    this.#lease = { of: chat, holder, until: Date.now() + remaining_ms, before: known && holder !== known ? known : holder && before };
  }

  #leaseWords(chat) {
    const { of, holder, until, before } = this.#lease ?? {};
    if (of !== chat) return "unknown";
    if (!holder) {
      const { status } = chat.messages.findLast(({ role }) => role === "assistant") ?? {};
      return status in TAKEN_OVER ? `was taken over, as its holder ${TAKEN_OVER[status]}` : "nobody holds one";
    }
    const seconds = ((until - Date.now()) / 1000).toFixed(1);
    const who = `attempt ${holder}${before ? `, which took it from ${before}` : ""}`;
    return seconds > 0 ? `${seconds} s left to ${who}` : `over for ${-seconds} s, and not renewed by ${who}`;
  }

  draw() {
    const facts = this.#facts();
    this.#note(facts);
    if (!this.isOpen) return;
    for (const [name, value] of Object.entries(facts)) {
      const told = this.#values.get(name) ?? this.#row(name);
      if (told.textContent !== String(value)) told.textContent = value; // what stays the same stays selected, too
    }
  }

  #row(name) {
    const term = document.createElement("dt");
    const told = document.createElement("dd");
    term.textContent = name;
    $("facts").append(term, told);
    this.#values.set(name, told);
    return told;
  }

  #facts() {
    const { chats } = this.page;
    const chat = this.page.chat();
    const health = this.#health;
    const reply = chat.messages.findLast(({ status }) => status === "streaming");
    return {
      "This browser": { online: "connected", offline: "waits for the server", connecting: "is connecting" }[chats.status] ?? chats.status,
      "This tab": chats.isLeader ? "talks for all tabs" : "listens to another tab",
      Waiting: count(chats.waiting, "action"),
      Failed: count(chats.failed.length, "action"),
      Conversation: chat.id ?? "not begun",
      Version: chat.version ?? "none",
      Messages: `${chat.messages.length}${chat.hasOlder ? ", and older ones" : ""}`,
      Turn: reply?.id ?? (chat.isStreaming ? "begun" : "none"),
      Lease: this.#leaseWords(chat),
      Stream: chat.isReconnecting ? "cut, and tried again" : chat.isStreaming ? "open" : "none",
      "Ends in": chat.expiresAt ? span(new Date(chat.expiresAt) - Date.now()) : "unknown",
      Server: health ? "answers" : "cannot be reached",
      Store: !health ? "unknown" : health.connected ? `answers in ${Math.round(health.latency_ms * 10) / 10} ms` : "cannot be reached",
      Fallback: !health ? "unknown" : health.degraded ? "the journal takes new conversations" : "not needed",
      Journal: health?.pending == null ? "unknown" : `${count(health.pending, "conversation")} to hand over`,
    };
  }

  /** Log what has changed since the last look. Another conversation begins anew. */
  #note(facts) {
    if (this.#last.Conversation !== facts.Conversation)
      for (const name of ["Version", "Stream", "Lease"]) delete this.#last[name];
    this.#last.Conversation = facts.Conversation;
    const told = ["This browser", "This tab", "Waiting", "Failed", "Version", "Stream", ...(this.isOpen ? ["Lease", "Server", "Store", "Fallback", "Journal"] : [])];
    const steady = (text) => String(text).replace(/ in [\d.]+ ms|[\d.]+ s left to | for [\d.]+ s/, "");
    for (const name of told) {
      const value = steady(facts[name]);
      if (this.#last[name] !== undefined && this.#last[name] !== value) this.#log(`${name}: ${value}`);
      this.#last[name] = value;
    }
  }

  #log(text) {
    const line = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = asClock.format(new Date());
    line.append(time, ` ${text}`);
    $("log").prepend(line);
    while ($("log").children.length > KEPT) $("log").lastElementChild.remove();
  }
}

/** The JSON of an answer. null: there is none. */
async function asked(url) {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(3000) });
    return await answer.json();
  } catch {
    return null;
  }
}

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}
