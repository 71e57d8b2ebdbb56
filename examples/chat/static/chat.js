// The page: which conversation is shown, the field that one writes in, and what is told besides. The conversations
// themselves, their queue and their connections are the matter of convstore.js.
import { $, button, eachFrame, grow, rest, wordsFor } from "./dom.js";
import { MessageList } from "./messages.js";
import { Panel } from "./panel.js";
import { Sidebar } from "./sidebar.js";

const { convstore, sessions, root, logout, name } = document.body.dataset;
const { Chats } = await import(convstore);
const chats = new Chats(sessions.replace(/\/$/, ""), { user: name });
const LONGEST_DRAFT = 100_000;
const narrow = matchMedia("(max-width: 699px)");
const field = $("text");
let chat = chats.create({});
let isLeaving = false;

const isLocal = (id) => id.startsWith("local-");
const pathOf = (id) => `${root}c/${encodeURIComponent(id)}`;
const currentId = () => chat.id;
const list = new MessageList({ chats, failed: (error) => toast(wordsFor(error)) });
const sidebar = new Sidebar({ chats, pathOf, currentId, go, leave, told, titleOf });
const panel = new Panel({ chats, chat: () => chat, sessions: sessions.replace(/\/$/, ""), root, narrow });

// ---- which conversation

function idInPath() {
  const path = location.pathname;
  return path.startsWith(`${root}c/`) ? decodeURIComponent(path.slice(root.length + 2)) : null;
}

/** Show a conversation, or a new one. */
function open(id) {
  chat?.removeEventListener("change", draw);
  chat?.close();
  chat = id ? chats.open(id) : chats.create({});
  chat.addEventListener("change", draw);
  list.open(chat);
  field.value = sessionStorage.getItem(draftOf(id)) ?? "";
  grow(field);
  drawRemoved();
  drawToasts();
  draw();
  drawSide();
}

/** Go to a conversation, or a new one. @param {boolean} [stays] The drawer stays open. */
function go(id, stays = false) {
  history.pushState(null, "", id ? pathOf(id) : root);
  open(id);
  if (!stays) showSide(false);
  (narrow.matches && id ? $("scroll") : field).focus();
}

const left = new Set(); // ids of conversations that were open when they were deleted here

/** Go on with a new conversation, as the one that is open is deleted. */
function leave(id) {
  left.add(id);
  go(null, true);
}

/** Undo a removal. The conversation is opened again if it was open, and if nothing else has been opened since. */
async function undo(id) {
  const isBack = await chats.undo(id);
  if (isBack && left.delete(id) && idInPath() === null) return go(id);
  if (!isBack) toast("It is too late to undo this.");
  if (document.activeElement === document.body) rest();
}

addEventListener("popstate", () => open(idInPath()));
$("new").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(null);
});

// ---- what is shown

const draw = eachFrame(() => {
  const { messages, state } = chat;
  const isBegun = messages.length > 0;
  noteFirstText();
  const title = titleOf({ session_id: chat.id, title: chat.title });
  if (isBegun && idInPath() !== chat.id) moveDraftAndPath();
  $("title").textContent = title;
  document.title = `${title} – flask-convstore chat`;
  $("welcome").hidden = isBegun || (idInPath() !== null && state !== "ready") || isRemoved();
  $("gone").hidden = isBegun || state !== "gone";
  $("loading").hidden = isBegun || state !== "loading" || idInPath() === null;
  list.draw();
  drawComposer();
  drawBanner();
  panel.draw();
});
const drawSide = eachFrame(() => sidebar.draw());

const firstTexts = new Map(); // id: the text of the first message, while the server has no title

function noteFirstText() {
  const first = chat.hasOlder ? null : chat.messages.find(({ role }) => role === "user");
  if (chat.title || typeof first?.content !== "string" || firstTexts.has(chat.id)) return;
  firstTexts.set(chat.id, first.content.slice(0, 80));
  drawSide();
}

/** The title of a session. Without one it is its first message, as that is what the server makes of it. */
function titleOf({ session_id, title }) {
  return title || firstTexts.get(session_id) || "New conversation";
}

/** The conversation is deleted here or in another tab, and that can be undone. */
const isRemoved = () => chats.removed.some(({ session_id }) => session_id === chat.id);

/** Nothing can be said in a conversation that is being deleted. */
function drawRemoved() {
  const is = isRemoved();
  if ($("removed").hidden === !is) return;
  const hadFocus = [field, $("removed").querySelector("button"), document.body].includes(document.activeElement);
  $("removed").hidden = !is;
  document.body.classList.toggle("is-removed", is);
  field.disabled = is;
  if (hadFocus) (is ? $("removed").querySelector("button") : field).focus();
}

function drawComposer() {
  drawRemoved();
  const isEmpty = $("text").value.trim() === "";
  $("stop").hidden = !chat.isStreaming;
  $("send").hidden = chat.isStreaming && isEmpty;
  const goesOn = chat.isStreaming && chats.status === "online" && !chat.isReconnecting;
  $("keys").hidden = goesOn;
  $("now").hidden = !goesOn;
  $("now").firstElementChild.href = location.href;
  $("send").disabled = isEmpty || chat.state === "gone" || field.disabled;
}

function drawBanner() {
  const words = bannerWords();
  if ($("banner").textContent !== words) $("banner").textContent = words;
}

function bannerWords() {
  if (chats.status === "signed-out") return "You are signed out. Reload the page to go on.";
  if (chats.status === "offline") {
    const reply = chat.isStreaming ? " The reply goes on when it is back, or ends where it was cut." : "";
    return `The server cannot be reached.${reply} Go on writing: what you do is kept here, and sent later.${countWaiting()}`;
  }
  if (chat.isReconnecting) return "The connection was lost in the middle of the reply. It is tried again.";
  if (chat.error && chat.state !== "gone" && chat.error.type !== "aborted") return wordsFor(chat.error);
  return "";
}

/** Number of actions that wait. A reply that comes is none. */
const countOfWaiting = () => chats.waiting - (chat.isStreaming ? 1 : 0);

function countWaiting() {
  const count = countOfWaiting();
  if (count < 1) return "";
  return count === 1 ? " One thing waits." : ` ${count} things wait.`;
}

/** The conversation has an id now: the address tells it. */
function moveDraftAndPath() {
  sessionStorage.removeItem(draftOf(idInPath()));
  history.replaceState(null, "", pathOf(chat.id));
  keepDraft(chat.id);
}

/** Keep what one has begun to write for a reload. */
function keepDraft(id) {
  if (field.value && field.value.length < LONGEST_DRAFT) sessionStorage.setItem(draftOf(id), field.value);
  else sessionStorage.removeItem(draftOf(id));
}

const draftOf = (id) => `draft:${id ?? ""}`;

// ---- what one writes

field.addEventListener("input", () => {
  grow(field);
  keepDraft(idInPath());
  drawComposer();
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("composer").requestSubmit();
  }
  if (event.key === "ArrowUp" && field.value === "") {
    event.preventDefault();
    list.editLast();
  }
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send(field.value.trim());
});
$("composer").addEventListener("mousedown", (event) => {
  if (event.target === field) return;
  event.preventDefault(); // a second press on what goes away would take the focus out of the field
  field.focus();
});
$("stop").addEventListener("click", () => {
  told(chat.stop());
  rest();
});
$("removed").querySelector("button").addEventListener("click", () => undo(chat.id));
for (const idea of document.querySelectorAll(".ideas button")) idea.addEventListener("click", () => send(idea.textContent));

function send(text) {
  if (!text || chat.state === "gone" || field.disabled) return;
  field.value = "";
  sessionStorage.removeItem(draftOf(idInPath()));
  grow(field);
  field.focus();
  list.toTheEnd();
  chat.send(text); // what becomes of it is shown at the message
  draw();
}

/** Await a call, and tell what went wrong. */
async function told(call) {
  const error = (await call)?.error;
  if (error && error.type !== "aborted") toast(wordsFor(error));
}

// ---- toasts

const toasts = new Map(); // key: its element

function drawToasts() {
  const wanted = new Map();
  for (const { session_id, title } of chats.removed)
    if (session_id !== chat.id)
      wanted.set(`removed ${session_id}`, () =>
        toastOf(`Deleted: ${titleOf({ session_id, title })}`, ["Undo", () => undo(session_id)]));
  for (const { key, kind, error } of chats.failed)
    if (kind !== "send")
      wanted.set(`failed ${key}`, () =>
        toastOf(`${FAILED[kind] ?? "Not done."} ${wordsFor(error)}`, ["Try again", () => told(chats.retry(key))], ["Leave it", () => told(chats.discard(key))]));
  for (const [key, element] of toasts)
    if (!wanted.has(key)) {
      element.remove();
      toasts.delete(key);
    }
  for (const [key, make] of wanted) if (!toasts.has(key)) toasts.set(key, $("toasts").appendChild(make()));
}

const FAILED = { create: "The conversation was not begun.", rename: "Not renamed.", remove: "Not deleted.", edit: "Not changed.", redact: "Not removed." };

function toastOf(text, ...buttons) {
  const element = document.createElement("div");
  const words = document.createElement("span");
  words.dir = "auto";
  words.textContent = text;
  element.className = "toast";
  element.append(words);
  for (const [label, act] of buttons) {
    const made = button(label, null, "");
    made.addEventListener("click", act);
    element.append(made);
  }
  return element;
}

/** Tell something for some seconds. */
function toast(text) {
  const element = $("toasts").appendChild(toastOf(text));
  setTimeout(() => element.remove(), 6000);
}

// ---- the list as a drawer

const BEHIND = ".skip, .bar, #banner, #removed, #scroll, #latest, #composer, .hint, #panel"; // all but the toasts

/** Open or close the drawer. What is behind it cannot be reached meanwhile. @param {HTMLElement} [first] What gets the focus. */
function showSide(is, first = $("close-side")) {
  document.body.classList.toggle("side-open", is);
  $("open-side").ariaExpanded = String(is);
  for (const behind of document.querySelectorAll(BEHIND)) behind.inert = is;
  if (is) first.focus();
}

narrow.addEventListener("change", () => showSide(false));

$("open-side").addEventListener("click", () => showSide(true));
for (const id of ["close-side", "scrim"])
  $(id).addEventListener("click", () => {
    showSide(false);
    $("open-side").focus();
  });

// ---- keys

addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  const isTyping = /^(INPUT|TEXTAREA)$/.test(event.target.tagName);
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    go(null);
  } else if (event.key === "/" && !isTyping) {
    event.preventDefault();
    if (narrow.matches) showSide(true, $("search"));
    else $("search").focus();
  } else if (event.key === "Escape") {
    if (document.body.classList.contains("side-open")) $("close-side").click();
    else if (event.target === $("search")) {
      $("search").value = "";
      sidebar.draw();
      field.focus();
    } else if (panel.isOpen && (!chat.isStreaming || narrow.matches || $("panel").contains(event.target))) closePanel();
    else if (chat.isStreaming) told(chat.stop());
  }
});

/** Close what is happening. The focus stays where it is, unless it was there. */
function closePanel() {
  const hadFocus = $("panel").contains(document.activeElement);
  panel.show(false);
  if (hadFocus) $("open-panel").focus();
}

// ---- signing in and out

$("login")?.addEventListener("click", () => {
  $("login-loses").textContent = losesWords();
  $("login-loses").hidden = !losesWords();
  showNameError("");
  $("login-dialog").showModal();
});
$("login-dialog").addEventListener("submit", (event) => {
  if ($("name").value.trim()) return;
  event.preventDefault();
  showNameError("Write a name, not only spaces.");
  $("name").focus();
});
$("name").addEventListener("input", () => showNameError(""));

function showNameError(words) {
  $("name-error").textContent = words;
  $("name").ariaInvalid = String(words !== "");
}

/** Words for what is lost by signing in: the server has not got it, and the next owner does not get it. */
function losesWords() {
  const lost = [];
  if (countOfWaiting() > 0) lost.push("what waits for the server");
  if (chats.failed.length) lost.push("what has failed");
  if (field.value.trim() || Object.keys(sessionStorage).some((key) => key.startsWith("draft:"))) lost.push("your drafts");
  return lost.length ? `If you sign in now you lose ${new Intl.ListFormat("en").format(lost)}.` : "";
}

document.querySelector("[data-close]").addEventListener("click", () => $("login-dialog").close());
$("logout")?.addEventListener("click", () => {
  if (!chats.waiting && !chats.failed.length) return signOut();
  $("logout-text").textContent = "Some of what you have done has not reached the server yet.";
  $("logout-dialog").returnValue = "stay";
  $("logout-dialog").showModal();
});
$("logout-dialog").addEventListener("close", () => $("logout-dialog").returnValue === "leave" && signOut());

/** Remove all that this browser keeps, and then sign out at the server. */
async function signOut() {
  isLeaving = true;
  await chats.signOut();
  sessionStorage.clear();
  await window.caches?.delete("page"); // the name stands in it
  const answer = await fetch(logout, { method: "POST" }).catch(() => null);
  if (answer?.ok) return location.assign(root);
  toast("What this browser had kept is removed. The server cannot be reached to sign out there: try again later.");
}

// ---- begin

function changed() {
  draw();
  drawSide();
  drawToasts();
  if (chats.isClosed && !isLeaving) beginAnew();
}

/** Another tab has signed in or out: this one begins anew. */
function beginAnew() {
  isLeaving = true;
  sessionStorage.clear();
  setTimeout(() => location.assign(root), 500);
}

/** Drop the drafts of who was here before, as `convstore.js` drops the conversations. */
function forgetDraftsOfOthers() {
  if ((sessionStorage.getItem("user") ?? name) !== name)
    for (const key of Object.keys(sessionStorage)) if (key.startsWith("draft:")) sessionStorage.removeItem(key);
  sessionStorage.setItem("user", name);
}

forgetDraftsOfOthers();
chats.addEventListener("change", changed);
await chats.ready;
const typed = field.value; // before this script was there
open(idInPath());
if (typed) field.value = typed;
if (isLocal(chat.id) && idInPath() && !chat.messages.length) {
  history.replaceState(null, "", root); // it was made meanwhile, and has another address
  open(null);
}
drawToasts();
drawComposer();
document.body.dataset.isReady = "";

// The page and its files are kept for a reload without the server.
if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register(`${root}offline.js`).catch(() => {});
  const { active } = await navigator.serviceWorker.ready;
  const files = performance.getEntriesByType("resource").map((entry) => entry.name);
  const own = files.filter((file) => file.startsWith(location.origin) && /\/static\/|\/convstore\.js/.test(file));
  active.postMessage([...new Set(own), root]);
}
