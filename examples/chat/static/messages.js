// The messages of a conversation. Only the newest ones are in the page, and only what has changed is drawn again.
import { $, arrange, button, copy, copyOf, grow, rest, wordsFor } from "./dom.js";
import { Growing } from "./markdown.js";

const PAGE = 100;
const NEAR_THE_END = 80;
const ROLES = ["user", "assistant"];

const textOf = ({ content }) => (typeof content === "string" ? content : content == null ? "" : JSON.stringify(content));
const asMoment = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const keyOf = (message) => message.id ?? message.key;

const NOTES = {
  waiting: "Waits for the connection.",
  stopped: "Stopped.",
  interrupted: "The reply was cut off.",
  failed: "The reply has failed.",
  unanswered: "There was no reply.",
  superseded: "Another message came before the reply.",
  redacted: "This was removed.",
};
const HAS_NO_REPLY = ["interrupted", "failed", "unanswered"];
const IS_CUT = ["interrupted", "failed", "stopped"];

export class MessageList {
  #list = $("messages");
  #scroll = $("scroll");
  #shown = new Map(); // key: {item, message, growing}
  #chat = null;
  #count = PAGE;
  #follows = true;
  #top = 0;
  #goneAt = -Infinity; // when a button was pressed that goes away

  /** @param actions {failed(error), sent()}: what the page does besides. */
  constructor(actions) {
    this.actions = actions;
    this.#list.addEventListener("click", (event) => this.#clicked(event));
    this.#scroll.addEventListener("mousedown", (event) => {
      if (performance.now() - this.#goneAt < 500) event.preventDefault(); // the second half of a double click
    });
    $("older").addEventListener("click", () => this.#showOlder());
    $("latest").addEventListener("click", () => this.toTheEnd());
    this.#scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const sizes = new ResizeObserver(() => this.#follows && this.toTheEnd());
    sizes.observe(this.#scroll);
    sizes.observe(this.#scroll.firstElementChild);
  }

  open(chat) {
    this.#chat = chat;
    this.#shown.clear();
    this.#list.replaceChildren();
    this.#count = PAGE;
    this.#follows = true;
  }

  toTheEnd() {
    this.#follows = true;
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#top = this.#scroll.scrollTop;
    $("latest").hidden = true;
  }

  draw() {
    const chat = this.#chat;
    const messages = chat.messages.filter(({ role }) => ROLES.includes(role)).slice(-this.#count);
    const before = this.#shown;
    this.#shown = new Map(messages.map((message) => [keyOf(message), this.#updated(before.get(keyOf(message)), message)]));
    arrange(this.#list, [...this.#shown.values()].map(({ item }) => item));
    $("older").hidden = !(chat.hasOlder || chat.messages.length > this.#count);
    const last = messages.at(-1);
    const comes = chat.isStreaming || last?.status === "sending";
    const isSeen = last?.role === "assistant" && textOf(last) !== "" && !chat.isReconnecting;
    $("typing").hidden = !comes || isSeen;
    if (this.#follows) this.toTheEnd();
    else this.#scrolled();
  }

  /** The newest message of the user that can be written again, to edit it. */
  editLast() {
    const mine = [...this.#shown.values()].findLast(({ message }) => message.role === "user" && message.seq);
    if (mine) this.#edit(mine);
  }

  #updated(shown, message) {
    if (!shown) {
      const item = copyOf("t-message");
      item.classList.add(message.role === "user" ? "user" : "other");
      item.querySelector(".who").textContent = message.role === "user" ? "You:" : "Reply:";
      shown = { item, message: {}, growing: message.role === "user" ? null : new Growing(item.querySelector(".body")) };
    }
    const old = shown.message;
    shown.message = message;
    if (old.content !== message.content || old.status !== message.status) this.#drawBody(shown, old);
    if (old.status !== message.status || old.error !== message.error || old.seq !== message.seq || old.edited_at !== message.edited_at)
      this.#drawRest(shown);
    return shown;
  }

  #drawBody({ item, message, growing }, old) {
    const text = textOf(message);
    const comes = message.status === "streaming";
    if (!growing) item.querySelector(".body").textContent = text;
    else if (comes) growing.show(text);
    else growing.finish(text);
    item.ariaBusy = String(comes);
    if (old.status === "streaming" && !comes) $("said").textContent = `Reply: ${plainText(item.querySelector(".body"))}`;
  }

  #drawRest({ item, message }) {
    const { status, error } = message;
    const note = item.querySelector(".note");
    let words = error ? `Not sent. ${wordsFor(error)}` : NOTES[status] ?? "";
    if (!words && message.edited_at) words = "Edited.";
    note.textContent = words;
    note.hidden = !words;
    item.dataset.status = status ?? "";
    item.querySelector(".actions").replaceChildren(...buttonsFor(message));
  }

  #clicked({ target }) {
    const pressed = target.closest("button[data-action]");
    if (!pressed) return;
    const shown = [...this.#shown.values()].find(({ item }) => item.contains(pressed));
    if (!shown) return;
    const { message } = shown;
    const act = {
      copy: () => copy(textOf(message), pressed),
      "copy-code": () => copy(pressed.closest(".code").querySelector("pre").textContent, pressed),
      edit: () => this.#edit(shown),
      again: () => this.#told(this.#chat.regenerate(message.id)),
      retry: () => this.#told(this.actions.chats.retry(message.key)),
      discard: () => this.#told(this.actions.chats.discard(message.key)),
      change: () => this.#change(message),
    }[pressed.dataset.action];
    act?.();
    if (["again", "retry", "discard"].includes(pressed.dataset.action)) {
      this.#goneAt = performance.now();
      rest();
    }
  }

  /** Give the text of a message that was not sent back to the field below. */
  async #change(message) {
    await this.actions.chats.discard(message.key);
    const field = $("text");
    field.value = [textOf(message), field.value].filter(Boolean).join("\n");
    field.dispatchEvent(new Event("input"));
    field.focus();
  }

  /** Show the text of a message in a field, and send it in the place of the message. */
  #edit(shown) {
    const { item, message } = shown;
    if (item.querySelector("form")) return;
    const form = copyOf("t-edit");
    const field = form.querySelector("textarea");
    const close = () => {
      form.remove();
      item.classList.remove("editing");
      $("text").focus();
    };
    field.value = textOf(message);
    field.addEventListener("input", () => grow(field));
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        close();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        form.requestSubmit();
      }
    });
    form.querySelector("button[type=button]").addEventListener("click", close);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = field.value.trim();
      close();
      if (!text || text === textOf(message)) return;
      this.toTheEnd();
      this.#chat.send(text, { replaces: message.id }); // what becomes of it is shown at the message
    });
    item.classList.add("editing");
    item.append(form);
    grow(field);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }

  async #told(call) {
    const error = (await call)?.error;
    if (error && error.type !== "aborted") this.actions.failed(error);
  }

  /** Show a page more. What the reader looks at stays where it is. */
  async #showOlder() {
    const first = this.#list.firstElementChild;
    const top = first?.getBoundingClientRect().top;
    this.#follows = false;
    $("older").disabled = true;
    await this.#load(this.#count + PAGE);
    $("older").disabled = false;
    this.#count += PAGE;
    this.draw();
    if (first) this.#scroll.scrollTop += first.getBoundingClientRect().top - top;
    (first ?? this.#scroll).querySelector("button")?.focus({ preventScroll: true });
  }

  async #load(count) {
    while (this.#chat.messages.length < count && this.#chat.hasOlder) {
      const { error } = await this.#chat.older();
      if (error) return this.actions.failed(error);
    }
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroll;
    if (scrollHeight - scrollTop - clientHeight < NEAR_THE_END) this.#follows = true;
    else if (scrollTop < this.#top) this.#follows = false; // by the reader, not by what has grown
    this.#top = scrollTop;
    $("latest").hidden = this.#follows;
  }
}

/** The text of a rendered reply, without its buttons. */
function plainText(body) {
  const copied = body.cloneNode(true);
  for (const bar of copied.querySelectorAll(".code-bar")) bar.remove();
  return copied.textContent.trim();
}

function timeOf(text) {
  const time = document.createElement("time");
  time.dateTime = text;
  time.textContent = asMoment.format(new Date(text));
  return time;
}

function buttonsFor(message) {
  const { role, status, error } = message;
  if (error) return [button("Send again", null, "retry"), button("Change", null, "change"), button("Discard", null, "discard")];
  if (status === "streaming" || status === "waiting" || status === "sending") return [];
  const buttons = [button("Copy", "copy", "copy")];
  if (role === "user") buttons.push(button("Edit and send again", "rename", "edit"));
  if (role === "assistant") buttons.push(button("Reply anew", IS_CUT.includes(status) ? null : "again", "again"));
  if (role === "user" && HAS_NO_REPLY.includes(status)) buttons.unshift(button("Ask again", null, "again"));
  if (message.created_at) buttons.push(timeOf(message.created_at));
  return buttons;
}
