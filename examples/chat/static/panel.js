// "What is happening": the facts behind the page, to be watched while something is broken.
import { $ } from "./dom.js";

const EVERY_MS = 1000;
const KEPT = 30;
const asClock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export class Panel {
  #timer = null;
  #health = null;
  #last = {};

  /** @param page {chats, chat(), sessions, narrow}. On a narrow screen it begins closed, as it hides the conversation. */
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
    clearInterval(this.#timer);
    if (!is) return;
    this.#timer = setInterval(() => this.#look(), EVERY_MS);
    this.#look();
  }

  async #look() {
    try {
      const answer = await fetch(`${this.page.sessions}/health`, { signal: AbortSignal.timeout(3000) });
      this.#health = await answer.json();
    } catch {
      this.#health = null;
    }
    this.draw();
  }

  draw() {
    const facts = this.#facts();
    this.#note(facts);
    if (!this.isOpen) return;
    const rows = Object.entries(facts).flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const told = document.createElement("dd");
      term.textContent = name;
      told.textContent = value;
      return [term, told];
    });
    $("facts").replaceChildren(...rows);
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
      Stream: chat.isReconnecting ? "cut, and tried again" : chat.isStreaming ? "open" : "none",
      "Ends in": chat.expiresAt ? span(new Date(chat.expiresAt) - Date.now()) : "unknown",
      Server: health ? "answers" : "cannot be reached",
      Store: !health ? "unknown" : health.connected ? `answers in ${Math.round(health.latency_ms * 10) / 10} ms` : "cannot be reached",
      Fallback: health?.degraded ? "the journal takes new conversations" : "not needed",
      Journal: health?.pending == null ? "unknown" : `${count(health.pending, "conversation")} to hand over`,
    };
  }

  /** Log what has changed since the last look. */
  #note(facts) {
    const told = ["This browser", "This tab", "Waiting", "Failed", "Version", "Stream", ...(this.isOpen ? ["Server", "Store", "Fallback", "Journal"] : [])];
    const steady = (text) => String(text).replace(/ in [\d.]+ ms/, "");
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

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}
