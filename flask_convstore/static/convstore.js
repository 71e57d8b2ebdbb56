/**
 * The browser's half of flask-convstore: conversations that are there at once, also offline, and go on where they were.
 *
 * What a person does is kept in this browser under a key before it is sent, and sent until the server has answered. The
 * server does what has the same key once. So nothing is lost by a reload or a lost answer, and nothing happens twice.
 * Of all tabs one, the leader, talks for all of them: it sends what waits, hears what happens elsewhere, and reads the
 * replies that come. Where a browser has no Web Locks each tab leads itself, which costs connections and harms nothing.
 *
 * Nothing throws because of the network or the server. A result has a `value` or an `error`.
 *
 * @module convstore
 */
/** @import { Action, Message, Options, Problem, Reply, Result, ServerEvent, Session, Store, Summary } from "./types.js" */

const SECONDS = 30; // for an answer
const SILENCE = 40; // seconds without a sign of life in a stream, whose server gives one each 15
const PAGE = 50; // messages or sessions at a time
const NEWEST = 20; // messages that are read where others have only added some
const MOST_KEPT = 50; // sessions with messages in this browser
const MOST_MESSAGES = 200; // of each
const MOST_WAITING = 200; // actions
const A_DAY = 86_400_000; // milliseconds in which a page may come back to a conversation by the id of before it was made
const MOST_PAUSE = 60_000; // milliseconds between two attempts
const TOLD_EACH = 60; // milliseconds: how often other tabs are told of a reply that comes
const MOST_SENT = 3; // actions at once. Browsers open six connections to a host over HTTP/1.1
const MOST_READ = 1; // replies of other devices, beside the events. What is left is for the page
const IMPORTED_AT_ONCE = 20;
const ASKED_EACH = 1000; // milliseconds: how often the leader is asked whether it is awake
const MOST_UNANSWERED = 3; // such questions. Then another tab leads

/** @type {Problem} */
const UNREACHABLE = {
  status: 0, type: "unreachable", detail: "The server cannot be reached.", written: null, retryAfter: 0,
};
/** The server knows a part only, as its store is away. What is shown is more. @type {Problem} */
const AWAY = { ...UNREACHABLE, status: 503, type: "unavailable" };
/** @type {Problem} */
const ABORTED = { status: 0, type: "aborted", detail: "It was broken off.", written: null, retryAfter: 0 };

/** @template T @param {T} value @returns {Result<T>} */
const done = (value) => ({ value, error: null });
/** @param {Problem} error @returns {{value: null, error: Problem}} */
const failed = (error) => ({ value: null, error });

/** Another tab or device has asked for the same reply anew. */
const NO_OTHER = done({ message: null, reply: null });

/** Refuse what is asked before anything is kept. @param {string} type @param {string} detail */
const refused = (type, detail) => failed({ status: 0, type, detail: `${detail} Nothing was kept.`, written: false, retryAfter: 0 });

/** Wait for a result, or until the waiting is broken off. @template T @param {Promise<T>} result @param {AbortSignal} [signal] */
function orAborted(result, signal) {
  return new Promise((resolve) => {
    const abort = () => end(failed(ABORTED));
    /** @param {any} found */
    const end = (found) => {
      signal?.removeEventListener("abort", abort);
      resolve(found);
    };
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
    result.then(end);
  });
}

/** A random UUID. `crypto.randomUUID` is only there over HTTPS. */
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return text.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Tell whether another attempt may succeed. @param {Problem} error */
const isPassing = ({ status, type }) =>
  status === 0 || [408, 425, 429, 503, 504].includes(status) || ["turn-in-progress", "http-502"].includes(type);

/** @param {Response} response @param {string} text @returns {Problem} */
function problemOf(response, text) {
  /** @type {any} */
  let shown = {};
  try {
    shown = JSON.parse(text);
  } catch { /* a proxy's page */ }
  const isOurs = typeof shown?.type === "string" && shown.type.startsWith("urn:convstore:");
  return {
    status: response.status,
    type: isOurs ? shown.type.slice("urn:convstore:".length) : `http-${response.status}`,
    detail: isOurs ? shown.detail : `The server answers with status ${response.status}.`,
    written: isOurs ? shown.written : null,
    retryAfter: Number(response.headers.get("Retry-After")) || 0,
    ...(shown?.errors && { errors: shown.errors }),
  };
}

// ---- the server

/** An end after some seconds without a sign of life, or with `signal`. @param {number} seconds @param {AbortSignal} [signal] */
function deadline(seconds, signal) {
  const controller = new AbortController();
  const stop = () => controller.abort();
  /** @type {any} */
  let timer;
  const restart = () => {
    clearTimeout(timer);
    timer = setTimeout(stop, seconds * 1000);
  };
  const end = () => {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  };
  signal?.addEventListener("abort", stop);
  if (signal?.aborted) stop();
  restart();
  return { signal: controller.signal, restart, end };
}

/** The routes of a blueprint. */
class Server {
  /** @param {string} base @param {() => Record<string, string>} headers */
  constructor(base, headers) {
    this.base = base;
    this.headers = headers;
  }

  /**
   * @param {string} method @param {string} path @param {any} body @param {Record<string, string>} headers
   * @param {AbortSignal} signal
   */
  #fetch(method, path, body, headers, signal) {
    const isText = typeof body === "string";
    return fetch(this.base + path, {
      method,
      signal,
      headers: {
        ...this.headers(),
        ...(body !== undefined && { "Content-Type": isText ? "application/x-ndjson" : "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: isText ? body : JSON.stringify(body) }),
    });
  }

  /**
   * Ask, and read the JSON of the answer.
   *
   * @param {string} method @param {string} path
   * @param {{body?: any, headers?: Record<string, string>, signal?: AbortSignal, has?: string}} [options] `has`: a key of every
   *   answer. What lacks it comes from somebody else.
   * @returns {Promise<Result<any>>}
   */
  async ask(method, path, { body, headers = {}, signal, has } = {}) {
    const limit = deadline(SECONDS, signal);
    try {
      const response = await this.#fetch(method, path, body, headers, limit.signal);
      const text = await response.text();
      if (!response.ok) return failed(problemOf(response, text));
      const value = JSON.parse(text);
      return has && !(has in value) ? failed(UNREACHABLE) : done(value);
    } catch {
      return failed(signal?.aborted ? ABORTED : UNREACHABLE);
    } finally {
      limit.end();
    }
  }

  /**
   * Ask, and hear the events of the answer.
   *
   * @param {string} method @param {string} path
   * @param {{body?: any, headers?: Record<string, string>, signal?: AbortSignal}} options
   * @param {(event: ServerEvent) => boolean | void} hear True: it was the last one.
   * @returns {Promise<Result<{json?: any, pause: number, isNothing?: boolean}>>} `json`: the answer was no stream. `pause`:
   *   milliseconds after which the server wants to be asked again.
   */
  async listen(method, path, { body, headers = {}, signal }, hear) {
    const limit = deadline(SILENCE, signal);
    try {
      const accepted = { Accept: "text/event-stream", ...headers };
      const response = await this.#fetch(method, path, body, accepted, limit.signal);
      if (!response.ok) return failed(problemOf(response, await response.text()));
      if (response.status === 204) return done({ pause: 0, isNothing: true });
      if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
        return done({ json: await response.json(), pause: 0 });
      }
      const pause = await eachEvent(/** @type {ReadableStream} */ (response.body), limit.restart, hear);
      return done({ pause });
    } catch {
      return failed(signal?.aborted ? ABORTED : UNREACHABLE);
    } finally {
      limit.end();
    }
  }
}

/** @param {ReadableStream} body @param {() => void} isAlive @param {(event: ServerEvent) => boolean | void} hear */
async function eachEvent(body, isAlive, hear) {
  const reader = body.pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  let pause = 1000;
  let rest = "";
  let event = { name: "message", id: "", text: "" };
  for (;;) {
    const { value, done: isOver } = await reader.read();
    if (isOver) return pause;
    isAlive();
    const lines = (rest + value).split("\n");
    rest = /** @type {string} */ (lines.pop());
    for (const line of lines.map((one) => one.replace(/\r$/, ""))) {
      const [, field, text] = /** @type {RegExpExecArray} */ (/^([^:]*):? ?(.*)$/.exec(line));
      if (line === "") {
        if (event.text && hear({ name: event.name, id: event.id, data: JSON.parse(event.text) })) {
          reader.cancel().catch(() => {});
          return pause;
        }
        event = { name: "message", id: event.id, text: "" };
      } else if (field === "event") event.name = text;
      else if (field === "id") event.id = text;
      else if (field === "data") event.text += text;
      else if (field === "retry") pause = Number(text) || pause;
    }
  }
}

// ---- what this browser keeps

/** Keeps values in IndexedDB. @implements {Store} */
class Database {
  /** @param {IDBDatabase} database */
  constructor(database) {
    this.database = database;
    database.onversionchange = () => database.close();
  }

  /** @param {string} name @returns {Promise<Database>} */
  static open(name) {
    return new Promise((resolve, reject) => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("kept", { keyPath: "key" });
      request.onsuccess = () => resolve(new Database(request.result));
      request.onerror = () => reject(request.error);
    });
  }

  /** @param {IDBTransactionMode} mode @param {(store: IDBObjectStore) => IDBRequest} act @returns {Promise<any>} */
  #do(mode, act) {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction("kept", mode);
      const request = act(transaction.objectStore("kept"));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
    });
  }

  /** @param {string} key */
  async get(key) {
    return (await this.#do("readonly", (store) => store.get(key)))?.value;
  }

  /** @param {string} prefix */
  async all(prefix) {
    const range = IDBKeyRange.bound(prefix, `${prefix}\uffff`);
    const found = await this.#do("readonly", (store) => store.getAll(range));
    return found.map((/** @type {any} */ { key, value }) => [key, value]);
  }

  /** @param {string} key @param {any} value */
  put(key, value) {
    return this.#do("readwrite", (store) => store.put({ key, value }));
  }

  /** @param {string} key */
  delete(key) {
    return this.#do("readwrite", (store) => store.delete(key));
  }

  close() {
    this.database.close();
  }
}

/** Keeps values as texts, in localStorage or what is like it. @implements {Store} */
class Texts {
  /** @param {Storage} storage @param {string} name */
  constructor(storage, name) {
    this.storage = storage;
    this.name = `${name}:`;
  }

  /** @param {string} key */
  async get(key) {
    try {
      return JSON.parse(this.storage.getItem(this.name + key) ?? "");
    } catch {
      return undefined; // there is none, or it is broken
    }
  }

  /** @param {string} prefix */
  async all(prefix) {
    const places = Array.from({ length: this.storage.length }, (_, index) => this.storage.key(index) ?? "");
    const keys = places.filter((key) => key.startsWith(this.name + prefix)).map((key) => key.slice(this.name.length));
    const found = await Promise.all(keys.sort().map(async (key) => /** @type {[string, any]} */ ([key, await this.get(key)])));
    return found.filter(([, value]) => value);
  }

  /** @param {string} key @param {any} value */
  async put(key, value) {
    this.storage.setItem(this.name + key, JSON.stringify(value));
  }

  /** @param {string} key */
  async delete(key) {
    this.storage.removeItem(this.name + key);
  }

  close() {}
}

/** Keeps nothing, where a browser allows nothing. @type {Store} */
const NOWHERE = { get: async () => undefined, all: async () => [], put: async () => {}, delete: async () => {}, close() {} };

/** @param {string} name @param {Storage} [storage] @returns {Promise<Store>} */
async function openStore(name, storage) {
  if (storage) return new Texts(storage, name);
  try {
    return await Database.open(name);
  } catch { /* there is none, or it is forbidden */ }
  try {
    return new Texts(localStorage, name);
  } catch {
    return NOWHERE;
  }
}

// ---- the conversations

/** @param {string} name */
function channelOf(name) {
  try {
    return new BroadcastChannel(name);
  } catch {
    return null; // it is forbidden here
  }
}

/** @param {string} id */
const isLocal = (id) => id.startsWith("local-");
/** @param {string} id */
const pathOf = (id) => `/${encodeURIComponent(id)}`;
/** @param {Action} action */
const placeOf = (action) => `o:${String(action.at).padStart(16, "0")}:${action.key}`;

/**
 * The conversations of one person in one browser. Every change is told by the event `change`, whose `detail` is
 * `{what: "list" | "chat" | "status", id}`.
 */
export class Chats extends EventTarget {
  #server;
  #options;
  #name;
  /** @type {Store} */
  #store = NOWHERE;
  /** @type {Map<string, Summary>} */
  #sessions = new Map();
  /** @type {Map<string, Session>} */
  #kept = new Map();
  /** @type {Map<string, Action>} */
  #actions = new Map();
  /** @type {Map<string, (result: Result<any>) => void>} */
  #askers = new Map();
  /** @type {Map<string, Chat>} */
  #chats = new Map();
  /** @type {Map<string, Reply>} */
  #replies = new Map();
  /** Actions that are on their way, by their keys. @type {Map<string, Action>} */
  #busy = new Map();
  /** Ids of sessions that were made, by the ids before. @type {Map<string, string>} */
  #made = new Map();
  /** Sessions whose reply is to be stopped as soon as it begins. @type {Set<string>} */
  #stopped = new Set();
  /** Whether another tab could give an action up. @type {Map<string, (is: boolean) => void>} */
  #givenUp = new Map();
  /** Sessions that are gone. A list that was asked for before may show them. @type {Set<string>} */
  #lost = new Set();
  /** Sessions whose replies this tab reads, which others have asked for. @type {Set<string>} */
  #read = new Set();
  /** Sessions whose replies it reads when there is a connection for them. @type {Set<string>} */
  #wanted = new Set();
  #end = new AbortController();
  /** Ends when this tab leads no more. */
  #reign = new AbortController();
  /** Ends the waiting for the lock. */
  #queue = new AbortController();
  /** Since when the leader leads. What an earlier one tells is late. */
  #term = 0;
  /** Questions that the leader has not answered. */
  #unanswered = 0;
  /** @type {any} */
  #asking;
  /** @type {BroadcastChannel | null} */
  #channel = null;
  /** Cursor of the next page of older sessions. null: there is none. undefined: nobody knows yet. @type {string | null | undefined} */
  #next;
  #lastAt = 0;
  /** @type {Set<() => void>} */
  #sleepers = new Set();
  /** @type {any} */
  #removing;
  /** @type {any} */
  #listing = null;
  /** @type {any} */
  #telling = null;

  /** @type {"connecting" | "online" | "offline" | "signed-out"} */
  status = "connecting";
  /** This tab talks for all tabs. */
  isLeader = false;
  /** What this browser keeps is loaded. `ready` resolves then. */
  isLoaded = false;

  /**
   * @param {string} [base] Prefix of the blueprint.
   * @param {object} [options]
   * @param {string} [options.user] Name of who is signed in. Another one finds nothing that was kept. "": nobody.
   * @param {() => Record<string, string>} [options.headers] Headers for every request.
   * @param {number} [options.undoFor] Milliseconds in which a removal can be undone.
   * @param {Storage} [options.storage] In place of IndexedDB.
   */
  constructor(base = "/sessions", options = {}) {
    super();
    this.#options = { user: "", undoFor: 8000, ...options };
    this.#server = new Server(base.replace(/\/$/, ""), this.#options.headers ?? (() => ({})));
    this.#name = `convstore:${this.#server.base}`;
    /** What this browser keeps is loaded. @type {Promise<void>} */
    this.ready = this.#begin();
  }

  async #begin() {
    const { signal } = this.#end;
    this.#channel = channelOf(this.#name);
    if (this.#channel) this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#store = await openStore(this.#name, this.#options.storage);
    if ((await this.#store.get("user")) !== this.#options.user) {
      await this.#forget();
      await this.#keep("user", this.#options.user);
    }
    const [actions, sessions, made] = await Promise.all(["o:", "s:", "l:"].map((prefix) => this.#store.all(prefix)));
    if (signal.aborted) return;
    this.isLoaded = true;
    for (const [, { by, ...action }] of actions) if (by === this.#options.user) this.#actions.set(action.key, action);
    for (const [, { by, isListed, at, ...session }] of sessions.sort(([, one], [, other]) => one.at - other.at)) {
      if (by !== this.#options.user) continue;
      const { history, data, ...summary } = session;
      this.#kept.set(session.session_id, session);
      if (isListed) this.#sessions.set(session.session_id, summary);
    }
    for (const [key, { id, at }] of made) {
      if (at > Date.now() - A_DAY) this.#moved(key.slice(2), id);
      else this.#store.delete(key).catch(() => {});
    }
    this.#lastAt = Math.max(0, ...[...this.#actions.values()].map(({ at }) => at));
    this.#tell({ user: this.#options.user });
    globalThis.addEventListener?.("online", this.#wake, { signal });
    globalThis.document?.addEventListener("visibilitychange", this.#wake, { signal });
    for (const chat of this.#chats.values()) chat.begin(this.#kept.get(chat.id));
    this.#changed("list");
    this.#lead();
  }

  /** Lead while this tab has the lock. A tab that was asleep finds that another one has taken it, and waits for it again. */
  async #lead() {
    const lead = () => {
      if (this.isClosed) return;
      this.#reign = new AbortController();
      this.#term = Math.max(Date.now(), this.#term + 1);
      this.isLeader = true;
      this.#share({ leads: true });
      this.#changed("status");
      this.#watch();
      this.#act();
      return new Promise((resolve) => this.#reign.signal.addEventListener("abort", resolve));
    };
    const { locks } = globalThis.navigator ?? {};
    if (!locks) return void lead();
    this.#asking = setInterval(() => this.#askLeader(), ASKED_EACH);
    while (!this.isClosed) {
      const steal = this.#queue.signal.aborted;
      if (steal) this.#queue = new AbortController();
      const error = await locks.request(this.#name, steal ? { steal } : { signal: this.#queue.signal }, lead).catch((error) => error);
      if (error && error.name !== "AbortError") return void lead(); // where locks are forbidden each tab leads
      if (this.isLeader) this.#depose();
    }
  }

  /** Ask the leader whether it is awake. Browsers freeze tabs, whatever they hold: where nobody answers this tab leads. */
  #askLeader() {
    if (this.isLeader || !this.#channel) return;
    if (this.#unanswered >= MOST_UNANSWERED) this.#queue.abort();
    this.#unanswered += 1;
    this.#tell({ ask: true });
  }

  /** Lead no more. Another tab goes on with what this one has begun. */
  #depose() {
    this.isLeader = false;
    this.#reign.abort();
    this.#unanswered = 0;
    for (const begun of [this.#busy, this.#read, this.#wanted, this.#replies]) begun.clear();
    this.#tell({ user: this.#options.user });
    this.#heardOf("", "lead", 0);
    this.#changed("status");
  }

  // ---- the list

  /** The sessions, the newest first, as they will be when all that waits is done. @returns {Summary[]} */
  get list() {
    const shown = new Map(this.#sessions);
    for (const { kind, session_id, title, at, error } of this.#actions.values()) {
      const known = shown.get(session_id);
      if (kind === "create" && !this.#made.has(session_id)) {
        const updated_at = new Date(at).toISOString();
        shown.set(session_id, { session_id, title: title ?? this.#firstText(session_id), updated_at, pending: true });
      } else if (known && !error && kind === "rename") shown.set(session_id, { ...known, title: title ?? null });
      else if (!error && kind === "remove") shown.delete(session_id);
    }
    return [...shown.values()].sort((one, other) => (one.updated_at < other.updated_at ? 1 : -1));
  }

  /** @param {string} id */
  #firstText(id) {
    const first = this.actionsOf(id).find(({ kind }) => kind === "send");
    return typeof first?.content === "string" ? first.content.slice(0, 80) : null;
  }

  /** Sessions whose removal can be undone. @returns {{session_id: string, title: string | null}[]} */
  get removed() {
    const found = [...this.#actions.values()].filter(({ kind, error }) => kind === "remove" && !error);
    return found.map(({ session_id }) => ({ session_id, title: this.#sessions.get(session_id)?.title ?? null }));
  }

  /** Actions that have failed. @returns {(Action & {error: Problem})[]} */
  get failed() {
    return /** @type {any} */ ([...this.#actions.values()].filter(({ error }) => error));
  }

  /** Number of actions that wait for the server. */
  get waiting() {
    return this.#actions.size - this.failed.length;
  }

  /** It was closed, or the person has signed out, here or in another tab. */
  get isClosed() {
    return this.#end.signal.aborted;
  }

  /** There are older sessions than `list` has. */
  get hasMore() {
    return Boolean(this.#next);
  }

  /** Load a page of older sessions. @param {Options} [options] @returns {Promise<Result<Summary[]>>} */
  async more(options = {}) {
    if (this.#next === null) return done([]);
    const query = `?limit=${PAGE}${this.#next ? `&cursor=${encodeURIComponent(this.#next)}` : ""}`;
    const { value, error } = await this.#ask("GET", query, { ...options, has: "sessions" });
    if (error) return failed(error);
    this.#next = value.next;
    this.#know(value.sessions);
    return done(value.sessions);
  }

  /** Find the sessions whose title or kept messages hold a text. @param {string} text @returns {Summary[]} */
  search(text) {
    const wanted = text.trim().toLowerCase();
    /** @param {Message} message */
    const holds = ({ content }) => typeof content === "string" && content.toLowerCase().includes(wanted);
    return this.list.filter(
      ({ session_id, title }) =>
        title?.toLowerCase().includes(wanted) || this.#kept.get(session_id)?.history.some(holds),
    );
  }

  /** Open a session. The same one is the same object. @param {string} id @returns {Chat} */
  open(id) {
    return this.#open(this.#made.get(id) ?? id);
  }

  /** Begin a conversation. The server makes it with its first message. @param {{title?: string, data?: Record<string, any>}} [given] */
  create(given = {}) {
    return this.#open(`local-${uuid()}`, given);
  }

  /** @param {string} id @param {{title?: string, data?: Record<string, any>}} [given] */
  #open(id, given) {
    const open = this.#chats.get(id) ?? new Chat(this, id, given);
    this.#chats.set(id, open);
    open.users += 1;
    open.begin(this.#kept.get(id));
    return open;
  }

  /** Give a session a title. @param {string} id @param {string} title @param {Options} [options] */
  rename(id, title, options) {
    return this.act({ kind: "rename", session_id: id, title }, options);
  }

  /** Remove a session: from the list now, from the server when it cannot be undone any more. @param {string} id @param {Options} [options] */
  remove(id, options) {
    const known = this.actionsOf(id).find(({ kind, error }) => kind === "remove" && !error);
    return known ? this.#answerTo(known.key, options) : this.act({ kind: "remove", session_id: id }, options);
  }

  /** Undo the removal of a session, in time. @param {string} id @returns {Promise<boolean>} Whether it is back. */
  async undo(id) {
    const found = this.actionsOf(id).find(({ kind, error }) => kind === "remove" && !error);
    return Boolean(found) && this.#giveUp(/** @type {Action} */ (found));
  }

  // ---- what people do

  /** @param {string} id @returns {Action[]} What waits for a session or has failed, in its order. */
  actionsOf(id) {
    return [...this.#actions.values()].filter(({ session_id }) => session_id === id).sort((a, b) => a.at - b.at);
  }

  /**
   * Keep an action, and send it in its turn.
   *
   * @param {Omit<Action, "key" | "at">} given @param {Options} [options]
   * @returns {Promise<Result<any>>} Its fate.
   */
  async act(given, options) {
    if (this.isClosed) return failed(ABORTED);
    if (this.#actions.size >= MOST_WAITING) return refused("queue-full", "Too much waits for the server already.");
    const session_id = this.#made.get(given.session_id) ?? given.session_id;
    const chat = this.#chats.get(session_id);
    if (isLocal(session_id) && given.kind !== "create" && !this.actionsOf(session_id).some(({ kind }) => kind === "create")) {
      this.act({ kind: "create", session_id, data: chat?.given?.data });
      if (chat?.given?.title) this.act({ kind: "rename", session_id, title: chat.given.title });
    }
    /** @type {Action} */
    let action;
    this.#lastAt = Math.max(Date.now(), this.#lastAt + 1);
    try {
      action = JSON.parse(JSON.stringify({ ...given, session_id, key: uuid(), at: this.#lastAt }));
    } catch {
      return refused("invalid", "This cannot be written as JSON.");
    }
    const answer = this.#answerTo(action.key, options);
    if (given.kind === "send") this.undo(session_id); // who writes wants to keep it
    this.#set(action);
    await this.ready; // before it nobody can be told, and nothing can be kept
    const now = this.#actions.get(action.key);
    if (now) await this.#put(now);
    this.#act();
    return answer;
  }

  /** Try a failed action again. @param {string} key @param {Options} [options] @returns {Promise<Result<any>>} */
  async retry(key, options) {
    const action = this.#actions.get(key);
    if (!action) return failed(ABORTED);
    const answer = this.#answerTo(key, options);
    const { error, ...again } = action;
    await this.#put(again);
    this.#act();
    return answer;
  }

  /** Give an action up: with a session that could not be made all that waits for it. @param {string} key @returns {Promise<Action | null>} The last one, for instance to edit its text. null: it is on its way, or done. */
  async discard(key) {
    const action = this.#actions.get(key);
    if (!action) return null;
    const given = action.kind === "create" ? this.actionsOf(action.session_id) : [action];
    for (const one of given) if (!(await this.#giveUp(one))) return null;
    return given.at(-1) ?? null;
  }

  /** Give an action up, unless it is on its way, which the leader knows. @param {Action} action @returns {Promise<boolean>} */
  async #giveUp(action) {
    const { key } = action;
    if (this.isLeader) {
      const isThere = this.#actions.has(key) && !this.#busy.has(key);
      if (isThere) await this.#drop(action, failed(ABORTED));
      return isThere;
    }
    this.#tell({ giveUp: key });
    return new Promise((resolve) => {
      /** @param {boolean} is */
      const end = (is) => {
        this.#givenUp.delete(key);
        resolve(is);
      };
      this.#givenUp.set(key, end);
      setTimeout(end, 6000, false); // until then another tab leads, if the leader is asleep
    });
  }

  /** @param {string} key @param {Options} [options] @returns {Promise<Result<any>>} */
  #answerTo(key, { signal } = {}) {
    const before = this.#askers.get(key);
    const answer = new Promise((resolve) => {
      this.#askers.set(key, (result) => {
        before?.(result);
        resolve(result);
      });
    });
    return orAborted(answer, signal);
  }

  /** @param {string} key @param {Result<any>} result */
  #answer(key, result) {
    this.#askers.get(key)?.(result);
    this.#askers.delete(key);
  }

  /** @param {Action} action */
  #set(action) {
    this.#actions.set(action.key, action);
    this.#tell({ action });
    this.#changedAt(action.session_id, true);
  }

  /** @param {Action} action */
  async #put(action) {
    this.#set(action);
    await this.#keep(placeOf(action), { ...action, by: this.#options.user });
  }

  /** @param {Action} action @param {Result<any>} result */
  async #drop(action, result) {
    this.#actions.delete(action.key);
    this.#tell({ dropped: action.key, result });
    this.#answer(action.key, result);
    this.#changedAt(action.session_id, true);
    this.#tidy(action.session_id);
    await this.#store.delete(placeOf(action)).catch(() => {});
  }

  /** Send what waits: of each session in its order, of several sessions at once. */
  #act() {
    if (!this.isLeader || this.isClosed) return;
    const actions = [...this.#actions.values()].filter(({ key }) => !this.#busy.has(key)).sort((one, other) => one.at - other.at);
    const removals = actions.filter(({ kind, error }) => kind === "remove" && !error);
    const soonest = Math.min(...removals.map((action) => this.#leftOf(action)).filter((left) => left > 0));
    if (soonest < Infinity) {
      this.#removing ??= setTimeout(() => {
        this.#removing = null;
        this.#act();
      }, soonest);
    }
    for (const action of removals) if (this.#leftOf(action) <= 0) this.#remove(action);
    const blocked = new Set([...this.#busy.values()].map(({ session_id }) => session_id));
    for (const action of actions) {
      const { session_id: id, kind, error, key } = action;
      if (kind === "remove" || blocked.has(id) || !this.#actions.has(key)) continue;
      if (!error || kind === "create") blocked.add(id); // nothing can go to what could not be made
      if (!error && this.#busy.size < MOST_SENT) this.#finish(action);
    }
  }

  /** Milliseconds in which a removal can be undone. @param {Action} action */
  #leftOf({ at }) {
    return at + this.#options.undoFor - Date.now();
  }

  /** Remove a session, and all that waits for it. @param {Action} action */
  async #remove(action) {
    const id = action.session_id;
    for (const other of this.actionsOf(id)) if (other.key !== action.key) this.#drop(other, failed(ABORTED));
    if (!isLocal(id)) return this.#finish(action);
    this.#share({ lost: id });
    return this.#drop(action, done(null));
  }

  /** Do an action, as often as it takes. @param {Action} action */
  async #finish(action) {
    const { key, session_id: id } = action;
    const { signal } = this.#reign;
    this.#busy.set(key, action);
    for (let attempts = 1; this.#actions.has(key); attempts += 1) {
      const { value, error } = await this.#do(action);
      if (signal.aborted) return;
      if (!this.#actions.has(key)) break;
      this.#noteAnswer(error);
      if (action.again && error?.type === "nothing-to-replace") {
        this.#heardOf(id, "saved", 0);
        await this.#drop(action, NO_OTHER);
      } else if (error === null) await this.#drop(action, done(value));
      else if (!isPassing(error) && error.status !== 401) {
        if (error.status === 404) this.#heardOf(id, "saved", 0);
        await this.#put({ ...action, error });
        this.#answer(key, failed(error));
        this.#tell({ failed: key, error });
        break;
      } else await this.#pause(error.status === 401 ? 5 : attempts, error.type === "turn-in-progress" ? 0 : error.retryAfter * 1000);
    }
    this.#busy.delete(key);
    this.#act();
  }

  /** @param {Action} action @returns {Promise<Result<any>>} */
  async #do(action) {
    const { kind, key, session_id: id, content, target = "", title = "" } = action;
    const { signal } = this.#reign;
    const keyed = { headers: { "Idempotency-Key": key }, signal };
    if (kind === "create") return this.#create(action);
    if (kind === "send") return this.#send(action);
    if (kind === "edit" || kind === "redact") {
      const path = `${pathOf(id)}/messages${pathOf(target)}`;
      const result = await (kind === "edit" ? this.#ask("PATCH", path, { body: { content }, ...keyed }) : this.#ask("DELETE", path, { signal }));
      if (result.value) this.#share({ took: [id, [result.value.message], result.value.version] });
      return result;
    }
    if (kind === "rename") {
      const result = await this.#ask("PATCH", pathOf(id), { body: { title }, signal });
      const { data, degraded, ...summary } = result.value ?? {};
      if (result.value) this.#share({ know: [summary] });
      return result;
    }
    const result = await this.#ask("DELETE", pathOf(id), keyed);
    if (result.error && result.error.status !== 404) return result;
    this.#share({ lost: id });
    return done(null);
  }

  /** @param {Action} action @returns {Promise<Result<any>>} */
  async #create({ key, session_id: local, data = {} }) {
    const headers = { "Idempotency-Key": key };
    const made = await this.#ask("POST", "", { body: { data }, headers, signal: this.#reign.signal, has: "session_id" });
    if (made.error) return made;
    const { history, data: shown, ...summary } = made.value;
    const id = summary.session_id;
    this.#share({ know: [summary], moved: [local, id] });
    await this.#keep(`l:${local}`, { id, at: Date.now() });
    for (const action of this.actionsOf(local)) if (action.key !== key) await this.#put({ ...action, session_id: id });
    return done(id);
  }

  /** A session was made. @param {string} local @param {string} id */
  #moved(local, id) {
    const chat = this.#chats.get(local);
    this.#made.set(local, id);
    if (!chat) return;
    this.#chats.delete(local);
    this.#chats.set(id, chat);
    chat.id = id;
    this.#changedAt(id, true);
    chat.begin();
  }

  /** @param {Action} action @returns {Promise<Result<any>>} */
  async #send({ key, session_id: id, content, metadata, target }) {
    const body = { content, id: key, ...(metadata && { metadata }), ...(target && { replaces: target }) };
    const headers = { "Idempotency-Key": key };
    let turn = "";
    const { signal } = this.#reign;
    const answer = await this.#server.listen("POST", `${pathOf(id)}/messages`, { body, headers, signal }, (event) => {
      this.#noteAnswer(null);
      turn = event.data.turn;
      return this.#heardReply(id, event);
    });
    if (answer.value?.json) {
      const { message, reply, version } = answer.value.json;
      this.#share({ took: [id, [message, reply], version] });
      return done({ message, reply });
    }
    if (answer.error && !turn) {
      if (answer.error.type !== "id-reused") return failed(answer.error);
      this.#heardOf(id, "saved", 0); // the answer was lost so long ago that the key is forgotten: the message is there
      return done({ message: null, reply: null });
    }
    const { reply, message, error } = await this.#readOn(id, turn, signal);
    return error ? failed(error) : done({ message, reply });
  }

  // ---- replies that come

  /** Read a reply, from where it is known, to its end. @param {string} id @param {string} turn @param {AbortSignal} signal @returns {Promise<Partial<Reply>>} */
  async #readOn(id, turn, signal) {
    for (let attempts = 1; !signal.aborted; attempts += 1) {
      const known = this.#replies.get(`${id}:${turn}`);
      if (known?.status) {
        this.#replies.delete(`${id}:${turn}`);
        return known.status === "failed" ? known : { ...known, error: undefined };
      }
      const headers = known ? { "Last-Event-ID": known.lastId } : undefined;
      const path = `${pathOf(id)}/replies${pathOf(turn)}`;
      const { value, error } = await this.#server.listen("GET", path, { headers, signal }, (event) => {
        turn = event.data.turn;
        attempts = 0;
        return this.#heardReply(id, event);
      });
      if (value?.isNothing) return {};
      const reply = this.#replies.get(`${id}:${turn}`);
      if (error && !isPassing(error)) {
        this.#replies.delete(`${id}:${turn}`);
        this.#heardOf(id, "saved", 0);
        return { error };
      }
      if (reply && error) this.#tellReply({ ...reply, isCut: true });
      if (!reply?.status) await this.#pause(attempts, value?.pause);
    }
    return { error: ABORTED };
  }

  /** Take in an event of a reply. @param {string} id @param {ServerEvent} event @returns {boolean} It was the last one. */
  #heardReply(id, { name, id: lastId, data }) {
    const begun = { session_id: id, turn: data.turn, text: "", parts: [], version: 0, status: "" };
    const known = this.#replies.get(`${id}:${data.turn}`);
    const [number, stream] = lastId.split("-");
    const [last, before] = known?.lastId.split("-") ?? [];
    const isSame = stream === before || name === "reset";
    if (isSame && name !== "reset" && Number(number) <= Number(last)) return name === "done"; // it was heard before
    /** @type {Reply} */
    const reply = { ...begun, ...(isSame && known), lastId, isCut: false };
    if (name === "message") reply.message = data.message;
    else if (name === "delta") reply.text += data.content;
    else if (name === "part") reply.parts = [...reply.parts, { kind: data.kind, content: data.content, at: reply.text.length }];
    else if (name === "reset") Object.assign(reply, { text: "", parts: [], error: undefined });
    else if (name === "reply") Object.assign(reply, { reply: data.reply, version: data.version ?? 0 });
    else if (name === "error") {
      const type = data.type.replace("urn:convstore:", "");
      reply.error = { status: 502, type, detail: data.detail, written: null, retryAfter: 0 };
    } else if (name === "done") reply.status = data.status;
    this.#tellReply(reply);
    if (this.#stopped.delete(id) && !reply.status) this.stop(id);
    return name === "done";
  }

  /** @param {Reply} reply */
  #tellReply(reply) {
    this.#setReply(reply);
    if (reply.status || !this.#telling) this.#tell({ reply });
    this.#telling ??= setTimeout(() => {
      this.#telling = null;
      for (const one of this.#replies.values()) this.#tell({ reply: one });
    }, TOLD_EACH);
  }

  /** @param {Reply} reply */
  #setReply(reply) {
    const { session_id: id, turn, message, reply: whole, version, status } = reply;
    const before = this.#replies.get(`${id}:${turn}`);
    this.#replies.set(`${id}:${turn}`, reply);
    const chat = this.#chats.get(id);
    if (message && !before?.message) chat?.take([message], 0);
    if (whole && !before?.reply) chat?.take([whole], version);
    if (status && !whole) chat?.heard("saved", 0);
    this.#changedAt(id);
  }

  /** The reply that comes in a session. @param {string} id @returns {Reply | undefined} */
  replyOf(id) {
    return [...this.#replies.values()].find((reply) => reply.session_id === id && !reply.status);
  }

  /** See that somebody reads the reply in progress of a session. @param {string} id */
  async follow(id) {
    if (!this.isLeader) return this.#tell({ follow: id });
    if (this.#isReading(id)) return this.#tell({ reply: this.replyOf(id) });
    if (this.#read.size >= MOST_READ) return void this.#wanted.add(id);
    const { signal } = this.#reign;
    this.#read.add(id);
    await this.#readOn(id, "current", signal);
    if (signal.aborted) return;
    this.#read.delete(id);
    const wanted = [...this.#wanted];
    this.#wanted.clear();
    for (const next of wanted) this.follow(next);
  }

  /** This tab reads the reply in progress of a session. @param {string} id */
  #isReading(id) {
    return this.#read.has(id) || [...this.#busy.values()].some(({ kind, session_id }) => kind === "send" && session_id === id);
  }

  /** Stop the reply in progress of a session, or the one that is asked for. @param {string} id @param {Options} [options] @returns {Promise<Result<any>>} */
  async stop(id, options) {
    const turn = this.replyOf(id)?.turn;
    if (!turn && this.actionsOf(id).some(({ kind, error }) => kind === "send" && !error)) {
      this.#stopped.add(id);
      this.#tell({ stop: id });
      return done(null);
    }
    return this.#ask("DELETE", `${pathOf(id)}/replies${pathOf(turn ?? "current")}`, options);
  }

  // ---- what happens elsewhere

  /** Hear what happens to all sessions, as long as this tab leads. */
  async #watch() {
    const { signal } = this.#reign;
    let lastId = "";
    for (let attempts = 1; !signal.aborted; attempts += 1) {
      const headers = lastId ? { "Last-Event-ID": lastId } : undefined;
      const { value, error } = await this.#server.listen("GET", "/events", { headers, signal }, (event) => {
        lastId = event.id || lastId;
        attempts = 0;
        this.#noteAnswer(null);
        this.#heardEvent(event);
      });
      if (signal.aborted) return;
      if (error) this.#noteAnswer(error);
      const isRefused = error?.status && !isPassing(error);
      if (isRefused) this.#share({ of: ["", "saved", 0] }); // nobody tells what happens: ask now and then
      if (isRefused && error.status !== 401) this.#listSoon();
      await this.#pause(isRefused ? 6 : attempts, value?.pause);
    }
  }

  /** @param {ServerEvent} event */
  #heardEvent({ name, data }) {
    if (name === "snapshot") {
      this.#share({ know: data.sessions });
      this.#listSoon();
      this.#share({ of: ["", "snapshot", 0] });
    } else if (name === "deleted") this.#share({ lost: data.session_id });
    else {
      if (data.kind === "listed") this.#lost.delete(data.session_id);
      if (data.kind === "reply") this.#wake(); // the turn is free
      this.#share({ of: [data.session_id, data.kind, data.version] });
      this.#listSoon();
    }
  }

  /** @param {string} id "": all. @param {string} kind @param {number} version 0: unknown. */
  #heardOf(id, kind, version) {
    for (const [open, chat] of this.#chats) if (!id || open === id) chat.heard(kind, version);
  }

  /** Read the newest sessions in a moment, once for all that happens until then. */
  #listSoon() {
    this.#listing ??= setTimeout(async () => {
      this.#listing = null;
      const before = new Set(this.#sessions.keys());
      const { value, error } = await this.#ask("GET", `?limit=${PAGE}`, { signal: this.#end.signal, has: "sessions" });
      if (!value) {
        if (error && isPassing(error)) await this.#pause(4).then(() => this.#listSoon());
        return;
      }
      const last = value.sessions.at(-1)?.session_id;
      if (this.#next === undefined || !before.has(last)) this.#next = value.next; // else what follows is known
      this.#page(value.sessions, before, value.next === null);
    }, 200);
  }

  /**
   * Take in the newest sessions, and tell the other tabs. What was known before, should be among them and is not is gone.
   *
   * @param {Summary[]} sessions @param {Set<string>} before @param {boolean} isAll There are no older ones.
   */
  #page(sessions, before, isAll) {
    const oldest = isAll ? "" : (sessions.at(-1)?.updated_at ?? "~");
    const found = new Set(sessions.map(({ session_id }) => session_id));
    for (const [id, { updated_at }] of this.#sessions) {
      if (before.has(id) && !found.has(id) && updated_at > oldest) this.#share({ lost: id });
    }
    this.#share({ know: sessions, next: this.#next });
  }

  /** @param {Summary[]} sessions */
  #know(sessions) {
    for (const summary of sessions) {
      if (!this.#lost.has(summary.session_id)) this.#sessions.set(summary.session_id, summary);
    }
    this.#changed("list");
  }

  /** A session is gone. @param {string} id */
  #lose(id) {
    this.#lost.add(id);
    this.#sessions.delete(id);
    this.#kept.delete(id);
    this.#store.delete(`s:${id}`).catch(() => {});
    this.#chats.get(id)?.lose();
    this.#changed("list");
  }

  // ---- the tabs

  /** @param {Record<string, any>} told */
  #tell(told) {
    this.#channel?.postMessage({ ...told, by: this.#options.user, ...(this.isLeader && { term: this.#term }) });
  }

  /** Do in all tabs what this one has heard. @param {Record<string, any>} told */
  #share(told) {
    this.#tell(told);
    this.#hear({ ...told, by: this.#options.user });
  }

  /** Hear another tab. @param {Record<string, any>} told */
  #hear(told) {
    const { user, leads, action, dropped, result, failed: key, error, moved, reply, follow, of, know, next, lost, status, took } = told;
    if (told.signedOut || (user ?? this.#options.user) !== this.#options.user) this.#close("signed-out");
    if (told.by !== this.#options.user) return;
    const isLate = !this.isLeader && told.term < this.#term;
    if (!this.isLeader && told.term >= this.#term) {
      this.#term = told.term;
      this.#unanswered = 0;
    }
    if (told.ask && this.isLeader) this.#tell({});
    if (user !== undefined && this.isLeader) this.#tell({ status: this.status, know: [...this.#sessions.values()], next: this.#next });
    if (leads) {
      this.#heardOf("", "lead", 0);
      for (const giveUp of this.#givenUp.keys()) this.#share({ giveUp });
    }
    if (moved) this.#made.set(moved[0], moved[1]); // before the list has both
    if (know) this.#know(know);
    if (moved) this.#moved(moved[0], moved[1]);
    if (action) this.#hearAction(action);
    if (took) this.#take(took[0], took[1], took[2]);
    if (next !== undefined) this.#next = next;
    if (dropped) {
      const known = this.#actions.get(dropped)?.session_id ?? "none";
      this.#actions.delete(dropped);
      this.#answer(dropped, result);
      this.#changedAt(known, true);
      this.#heardOf(known, "saved", 0);
      this.#tidy(known);
    }
    if (key) this.#answer(key, { value: null, error });
    if (reply && !isLate && !this.#isReading(reply.session_id) && this.#chats.has(reply.session_id)) {
      this.#setReply(reply);
      if (reply.status) this.#replies.delete(`${reply.session_id}:${reply.turn}`);
    }
    if (follow && this.isLeader) this.follow(follow);
    if (told.stop) this.#stopped.add(told.stop);
    if (told.giveUp && this.isLeader) this.#hearGiveUp(told.giveUp);
    this.#givenUp.get(told.gaveUp)?.(told.is);
    if (of) this.#heardOf(of[0], of[1], of[2]);
    if (lost) this.#lose(lost);
    if (status && !isLate) this.#setStatus(status);
  }

  /** @param {Action} action */
  #hearAction(action) {
    const id = this.#made.get(action.session_id);
    const isTwice = action.again && this.actionsOf(action.session_id).some(({ key, again, target }) => again && key !== action.key && target === action.target);
    if (isTwice && this.isLeader) return void this.#drop(action, NO_OTHER);
    this.#lastAt = Math.max(this.#lastAt, action.at);
    if (id && this.isLeader) return void this.#put({ ...action, session_id: id }).then(() => this.#act());
    this.#actions.set(action.key, action);
    this.#changedAt(action.session_id, true);
    this.#act();
  }

  /** @param {string} key */
  async #hearGiveUp(key) {
    const action = this.#actions.get(key);
    this.#share({ gaveUp: key, is: Boolean(action) && (await this.#giveUp(/** @type {Action} */ (action))) });
  }

  // ---- what is known

  /** Ask, as long as this is not closed. @param {string} method @param {string} path @param {object} [options] @returns {Promise<Result<any>>} */
  async #ask(method, path, options) {
    const result = await this.#server.ask(method, path, options);
    if (method === "GET" && result.value?.partial) return failed(AWAY);
    return this.isClosed ? failed(ABORTED) : result;
  }

  /** @param {string} id @param {(Message | null | undefined)[]} messages @param {number} version */
  #take(id, messages, version) {
    this.#chats.get(id)?.take(/** @type {Message[]} */ (messages.filter(Boolean)), version);
  }

  /** @param {string} id @param {number} last @param {Options} options @returns {Promise<Result<Session>>} */
  async read(id, last, { signal = this.#end.signal } = {}) {
    const result = await this.#ask("GET", `${pathOf(id)}?last=${last}`, { signal, has: "history" });
    if (result.error?.status === 404) this.#listSoon(); // nobody tells of what expires
    return result;
  }

  /** @param {string} id @param {number} before @param {Options} options @returns {Promise<Result<{messages: Message[], next: number | null}>>} */
  page(id, before, options) {
    return this.#ask("GET", `${pathOf(id)}/messages?before=${before}&limit=${PAGE}`, { ...options, has: "messages" });
  }

  /** Keep a session in this browser. The ones that were used long ago give way. @param {Session} session */
  async keepSession(session) {
    this.#kept.delete(session.session_id);
    this.#kept.set(session.session_id, { ...session, history: session.history.slice(-MOST_MESSAGES) });
    for (const id of [...this.#kept.keys()].slice(0, -MOST_KEPT)) {
      this.#kept.delete(id);
      await this.#store.delete(`s:${id}`).catch(() => {});
    }
    const isListed = this.#sessions.has(session.session_id);
    await this.#keep(`s:${session.session_id}`, { ...this.#kept.get(session.session_id), isListed, by: this.#options.user, at: Date.now() });
  }

  /** @param {string} key @param {any} value */
  async #keep(key, value) {
    if (this.isClosed) return;
    await this.#store.put(key, value).catch(() => {}); // the browser's room is used up: it is known in this tab only
  }

  async #forget() {
    for (const prefix of ["user", "o:", "s:", "l:", "i:"]) {
      for (const [key] of await this.#store.all(prefix)) await this.#store.delete(key).catch(() => {});
    }
  }

  /** @param {"list" | "status" | "chat"} what @param {string} [id] */
  #changed(what, id) {
    this.dispatchEvent(new CustomEvent("change", { detail: { what, id } }));
  }

  /** @param {string} id @param {boolean} [isListed] The list shows it. */
  #changedAt(id, isListed) {
    this.#chats.get(id)?.dispatchEvent(new CustomEvent("change"));
    this.#changed("chat", id);
    if (isListed) this.#changed("list");
  }

  // ---- the connection

  /** Note whether the server is there. @param {Problem | null} error */
  #noteAnswer(error) {
    const isAway = error && isPassing(error) && error.status !== 429 && error.status !== 409;
    const status = error?.status === 401 ? "signed-out" : isAway ? "offline" : "online";
    if (this.#setStatus(status)) this.#tell({ status });
  }

  /** @param {Chats["status"]} status @returns {boolean} It is a new one. */
  #setStatus(status) {
    if (status === this.status || this.isClosed) return false;
    this.status = status;
    this.#changed("status");
    for (const id of this.#chats.keys()) this.#changedAt(id);
    if (status === "online") this.#wake();
    return true;
  }

  /** Wait, the longer the more attempts have failed, or until something says that it is worth trying. @param {number} attempts @param {number} [least] Milliseconds. */
  #pause(attempts, least = 0) {
    const most = Math.min(MOST_PAUSE / 6, 250 * 2 ** Math.min(attempts, 10));
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#sleepers.delete(end);
        this.#end.signal.removeEventListener("abort", end);
        resolve(undefined);
      };
      const timer = setTimeout(end, Math.min(MOST_PAUSE, Math.max(least, most * (0.5 + Math.random() / 2))));
      if (!least) this.#sleepers.add(end);
      this.#end.signal.addEventListener("abort", end);
      if (this.isClosed) end();
    });
  }

  #wake = () => {
    for (const end of [...this.#sleepers]) end();
  };

  // ---- moving in and out

  /**
   * Import conversations that an app kept in this browser, once. A repeated call goes on where the last one was cut.
   *
   * @param {string} name Name of the import, such as the key in localStorage.
   * @param {any[]} items The conversations.
   * @param {(item: any) => {session_id?: string, title?: string, data?: object, messages: {role: string, content: any, at?: number | string}[]}} [toSession]
   *   Makes a session of one. By default it has `id`, `title`, and `messages` or `history` of `{role, content, timestamp}`.
   * @param {Options} [options]
   * @returns {Promise<Result<{imported: number, failed: {line: number, detail: string}[]}>>}
   */
  async importOnce(name, items, toSession = sessionOf, options = {}) {
    await this.ready;
    if (this.isClosed) return failed(ABORTED);
    const mark = (await this.#store.get(`i:${name}`)) ?? { next: 0, imported: 0, failed: [] };
    for (; mark.next < items.length; mark.next += IMPORTED_AT_ONCE) {
      const lines = items.slice(mark.next, mark.next + IMPORTED_AT_ONCE).map((item, index) => {
        const { session_id = `${name}-${mark.next + index}`, title, data = {}, messages } = toSession(item);
        const shown = messages.map(({ at, ...body }) => ({ created_at_ms: Number(new Date(at ?? 0)) || 0, body }));
        return JSON.stringify({ session_id, shape: "full", title, data, messages: shown });
      });
      const { value, error } = await this.#ask("POST", "/import", { body: lines.join("\n"), ...options });
      if (error && error.status !== 422) return failed(error);
      mark.imported += value?.imported ?? 0;
      const refused = value ? (value.failed ?? []) : lines.map((_, index) => ({ line: index + 1, detail: error?.detail }));
      for (const { line, detail } of refused) mark.failed.push({ line: mark.next + line, detail });
      if (value && !value.complete) return failed({ ...UNREACHABLE, type: "too-slow", detail: "The import goes on when it is called again.", written: true });
      await this.#keep(`i:${name}`, { ...mark, next: mark.next + IMPORTED_AT_ONCE });
    }
    this.#listSoon();
    return done({ imported: mark.imported, failed: mark.failed });
  }

  /** Remove what this browser keeps of the person, in all tabs. What waited for the server is lost. */
  async signOut() {
    await this.ready;
    const channel = channelOf(this.#name); // this one's may be closed
    channel?.postMessage({ signedOut: true });
    channel?.close();
    this.#close("signed-out");
    const store = await openStore(this.#name, this.#options.storage);
    this.#store = store;
    await this.#forget();
    store.close();
  }

  /** End it. What waits goes on in another tab, or the next time. */
  close() {
    this.#close(this.status);
  }

  /** @param {Chats["status"]} status */
  #close(status) {
    const isOpen = !this.isClosed;
    for (const each of [this.#end, this.#reign, this.#queue]) each.abort();
    this.#channel?.close();
    this.#channel = null;
    for (const timer of [this.#listing, this.#telling, this.#removing, this.#asking]) clearTimeout(timer);
    this.isLeader = false;
    this.status = status;
    if (status === "signed-out") {
      const places = [...[...this.#actions.values()].map(placeOf), ...[...this.#kept.keys()].map((id) => `s:${id}`)];
      if (isOpen) for (const place of places) this.#store.delete(place).catch(() => {});
      for (const known of [this.#sessions, this.#kept, this.#actions, this.#replies]) known.clear();
      for (const chat of this.#chats.values()) chat.lose();
    }
    for (const key of [...this.#askers.keys()]) this.#answer(key, failed(ABORTED));
    if (isOpen) this.#store.close();
    this.#changed("status");
    this.#changed("list");
  }

  /** @param {Chat} chat */
  shut(chat) {
    chat.users -= 1;
    this.#tidy(chat.id);
  }

  /** Forget a conversation that nobody looks at. @param {string} id */
  #tidy(id) {
    if (!this.#chats.get(id)?.users && !this.actionsOf(id).length) this.#chats.delete(id);
  }
}

/** @param {any} item @returns {any} */
function sessionOf({ id, title, messages, history, ...rest }) {
  const shown = (messages ?? history ?? []).map((/** @type {any} */ { role, content, timestamp, created_at }) => ({
    role, content, at: timestamp ?? created_at ?? rest.createdAt,
  }));
  return { ...(id !== undefined && { session_id: String(id) }), title, messages: shown };
}

/** One conversation. Every change is told by the event `change`. */
export class Chat extends EventTarget {
  #chats;
  /** @type {Message[]} */
  #stored = [];
  /** @type {Promise<any>} */
  #reading = Promise.resolve();
  #isAsked = false;
  #known = 0;
  /** Others may have changed more than the newest messages. */
  #isOther = true;
  #count = 0;
  #hasOlder = false;
  /** @type {any} */
  #keeping = null;

  /** Number of those who have opened it and not closed it. */
  users = 0;
  /** @type {"loading" | "ready" | "gone"} */
  state = "loading";
  /** @type {Problem | null} Why it could not be read. */
  error = null;
  version = 0;
  /** @type {Record<string, any>} */
  data = {};
  /** @type {Summary | null} */
  #summary = null;

  /** @param {Chats} chats @param {string} id @param {{title?: string, data?: Record<string, any>}} [given] Facts of a new one. */
  constructor(chats, id, given) {
    super();
    this.#chats = chats;
    this.id = id;
    this.given = given;
  }

  /** Show what is kept, and read what is there. @param {Session} [kept] */
  begin(kept) {
    if (kept && this.state === "loading" && !this.#stored.length) this.#set(kept, []);
    if (!isLocal(this.id)) return this.#load();
    const isThere = this.given || this.#chats.actionsOf(this.id).length || !this.#chats.isLoaded;
    this.state = isThere ? "ready" : "gone";
  }

  get title() {
    return this.#chats.list.find(({ session_id }) => session_id === this.id)?.title ?? this.#summary?.title ?? null;
  }

  /** Id of the session in which a compacted conversation goes on. @returns {string | null} */
  get movedTo() {
    return this.#summary?.moved_to ?? null;
  }

  get expiresAt() {
    return this.#summary?.expires_at ?? null;
  }

  /** The messages, the oldest first, as they will be when all that waits is done. @returns {Message[]} */
  get messages() {
    const actions = this.#chats.actionsOf(this.id);
    const reply = this.#chats.replyOf(this.id);
    let shown = [...this.#stored];
    /** @type {Message[]} */
    const sent = [];
    const unmade = actions.find(({ kind, error }) => kind === "create" && error);
    for (const { kind, content, metadata, target, at, ...action } of actions) {
      const { key } = action;
      const { error, key: failedKey } = unmade ?? action;
      if (kind === "send") {
        const index = shown.findIndex(({ id }) => id === key);
        if (index >= 0 && error) shown[index] = { ...shown[index], status: "failed", error, key: failedKey };
        if (index >= 0) continue;
        const replaced = target && !error ? shown.findIndex(({ id }) => id === target) : -1;
        if (replaced >= 0) shown = shown.slice(0, replaced);
        else if (action.again && !error) continue; // another tab has asked for it, too
        const status = error ? "failed" : this.#chats.status === "online" ? "sending" : "waiting";
        const message = { id: key, role: "user", content, created_at: new Date(at).toISOString(), status };
        sent.push({ ...message, ...(metadata && { metadata }), ...(error && { error, key: failedKey }) });
      } else if (!error && (kind === "edit" || kind === "redact")) {
        const change = kind === "edit" ? { content } : { content: "", status: "redacted" };
        for (const message of [...shown, ...sent]) {
          const list = shown.includes(message) ? shown : sent;
          if (message.id === target) list[list.indexOf(message)] = { ...message, ...change };
        }
      }
    }
    if (reply && !shown.some(({ id }) => id === reply.turn)) {
      const { turn: id, text: content, parts } = reply;
      shown.push({ id, role: "assistant", content, status: "streaming", ...(parts.length && { parts }) });
    }
    return [...shown, ...sent];
  }

  /** A reply comes. */
  get isStreaming() {
    return Boolean(this.#chats.replyOf(this.id));
  }

  /** The connection to the reply that comes is lost, and tried again. */
  get isReconnecting() {
    return Boolean(this.#chats.replyOf(this.id)?.isCut);
  }

  get hasOlder() {
    return this.#hasOlder;
  }

  /**
   * Send a message.
   *
   * @param {any} content @param {Options & {replaces?: string, metadata?: Record<string, any>}} [options] `replaces`: id of
   *   the message that gives way to this one, with all behind it.
   * @returns {Promise<Result<{message: Message | null, reply: Message | null}>>} Its fate. While the server is away there
   *   is none: it waits.
   */
  send(content, { replaces, metadata, signal } = {}) {
    const given = { content, ...(replaces && { target: replaces }), ...(metadata && { metadata }) };
    return this.#chats.act({ kind: "send", session_id: this.id, ...given }, { signal });
  }

  /** Stop the reply that comes. @param {Options} [options] */
  stop(options) {
    return this.#chats.stop(this.id, options);
  }

  /** Ask for another reply. Pressed twice it happens once. @param {string} id The reply, or the message before it. @param {Options} [options] */
  async regenerate(id, options = {}) {
    const index = this.#stored.findIndex((message) => message.id === id);
    const asked = this.#stored.slice(0, index + 1).findLast(({ role }) => role === "user");
    const isAsked = this.#chats.actionsOf(this.id).some(({ kind, error }) => kind === "send" && !error);
    if (isAsked) return refused("turn-in-progress", "A reply is on its way.");
    if (!asked) return refused("nothing-to-replace", "There is nothing to reply to.");
    const { content, metadata, id: target } = asked;
    return this.#chats.act({ kind: "send", session_id: this.id, content, target, again: true, ...(metadata && { metadata }) }, options);
  }

  /** Replace the content of a message, without another reply. @param {string} id @param {any} content @param {Options} [options] */
  edit(id, content, options) {
    return this.#chats.act({ kind: "edit", session_id: this.id, target: id, content }, options);
  }

  /** Remove the content of a message for good. @param {string} id @param {Options} [options] */
  redact(id, options) {
    return this.#chats.act({ kind: "redact", session_id: this.id, target: id }, options);
  }

  /** Load a page of older messages. @param {Options} [options] @returns {Promise<Result<Message[]>>} */
  older(options = {}) {
    const asked = this.#reading.then(() => this.#readOlder(options));
    this.#reading = asked;
    return orAborted(asked, options.signal);
  }

  /** @param {Options} options @returns {Promise<Result<Message[]>>} */
  async #readOlder(options) {
    const first = this.#stored[0]?.seq;
    if (!first) return done([]);
    const { value, error } = await this.#chats.page(this.id, first, options);
    if (error) return failed(error);
    this.#hasOlder = value.next !== null;
    this.#merge(value.messages);
    this.#changed();
    return done(value.messages);
  }

  /** It is not looked at any more. */
  close() {
    this.#chats.shut(this);
  }

  // ---- what is heard of it

  /** @param {string} kind @param {number} version 0: unknown. */
  heard(kind, version) {
    if (isLocal(this.id) || (version && version <= this.version)) return;
    const isSending = this.#chats.actionsOf(this.id).some((action) => action.kind === "send" && !action.error);
    const isNew = ["turn", "reply", "messages"].includes(kind);
    if (!isNew || version > Math.max(this.#known, this.version) + 1) this.#isOther = true;
    this.#known = Math.max(this.#known, version);
    if (!isNew || !(isSending || this.isStreaming)) this.#load();
  }

  /** Take in messages as the server shows them. @param {Message[]} messages @param {number} version Of the session with them. 0: unknown. */
  take(messages, version) {
    const before = this.#stored.length;
    const gone = this.#chats.actionsOf(this.id).find(({ key }) => messages.some(({ id }) => id === key))?.target;
    const index = this.#stored.findIndex(({ id }) => id === gone);
    if (index >= 0) this.#stored.length = index; // it gives way to the message that has come, with all behind it
    this.#merge(messages);
    this.#count += this.#stored.length - before;
    if (version > this.version) this.version = version;
    const seqs = this.#stored.slice(-messages.length - 1).map(({ seq = 0 }) => seq);
    const isHole = seqs.some((seq, index) => index && seq !== seqs[index - 1] + 1); // another device has written meanwhile
    if (isHole || (version && this.#known > version)) this.#load();
    this.#changed();
    this.#keepSoon();
  }

  lose() {
    this.state = "gone";
    this.#stored = [];
    clearTimeout(this.#keeping);
    this.#keeping = null;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("change"));
  }

  /** @param {Message[]} messages */
  #merge(messages) {
    const known = new Map(this.#stored.map((message) => [message.id, message]));
    for (const message of messages) known.set(message.id, message);
    this.#stored = [...known.values()].sort((one, other) => (one.seq ?? 0) - (other.seq ?? 0));
  }

  /** Read one after the other, since what is read takes the place of what was known. */
  #load() {
    if (this.#isAsked) return;
    this.#isAsked = true;
    this.#reading = this.#reading.then(() => this.#read());
  }

  /** @returns {Promise<void>} */
  async #read() {
    this.#isAsked = false;
    if (!this.users && !this.#chats.actionsOf(this.id).length) return;
    const isAll = this.#isOther;
    const heard = this.#known;
    const before = new Set(this.#stored.map(({ id }) => id));
    this.#isOther = false;
    const { value, error } = await this.#chats.read(this.id, isAll ? Math.max(PAGE, before.size) : NEWEST);
    const newer = this.#stored.filter(({ id }) => !before.has(id)); // what has come meanwhile
    const older = value && !isAll ? this.#olderThan(value) : [];
    this.error = error;
    if (error || !older) this.#isOther = true;
    if (!older) return this.#read();
    if (value) {
      const known = this.version;
      this.#set({ ...value, history: [...older, ...value.history] }, newer);
      if (!isAll && this.version > heard) this.version = Math.max(known, heard); // what else has happened is still to be heard
      this.#keepSoon();
      if (value.history.at(-1)?.role === "user") this.#chats.follow(this.id);
    } else if (error?.status === 404) return this.lose();
    else if (error && isPassing(error)) setTimeout(() => this.#load(), 1500);
    if (error?.type === AWAY.type) this.version = 0; // what is told meanwhile counts from another beginning
    this.#changed();
  }

  /** Find the known messages before those that were read. null: nobody can tell that they are all. @param {Session} session */
  #olderThan({ history, message_count }) {
    const [first] = history;
    const index = this.#stored.findIndex(({ id }) => id === first?.id);
    const isWhole = message_count === this.#count + index + history.length - this.#stored.length;
    return index >= 0 && isWhole ? this.#stored.slice(0, index) : null;
  }

  /** @param {Session} session @param {Message[]} newer Messages that may be newer than it. */
  #set({ history, data, ...summary }, newer) {
    if (summary.version && summary.version < this.version) return; // it was overtaken
    const last = history.at(-1)?.seq ?? 0;
    const added = newer.filter(({ seq = 0 }) => seq > last);
    this.#stored = [...history, ...added];
    this.#count = (summary.message_count ?? 0) + added.length;
    this.#hasOlder = history.length > 0 && (history[0].seq ?? 1) > 1;
    this.#summary = summary;
    this.data = data ?? {};
    this.version = summary.version ?? 0;
    this.state = "ready";
  }

  #keepSoon() {
    this.#keeping ??= setTimeout(() => {
      this.#keeping = null;
      if (this.state === "gone" || !this.#summary) return;
      this.#chats.keepSession({ ...this.#summary, version: this.version, data: this.data, history: this.#stored });
    }, 50);
  }
}
