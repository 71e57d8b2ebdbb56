// What people do with the browser's half, against a real server. `node scenarios.mjs <name> <url> <module>` plays one.

import assert from "node:assert/strict";

const [name, url, module, seed = "1"] = process.argv.slice(2);
const { Chats } = await import(module);
const owner = `u-${crypto.randomUUID()}`;
const headers = () => ({ "X-Owner": owner });
const realFetch = globalThis.fetch;
const open = new Set();

/** Storage like a browser's. */
function storage() {
  const texts = new Map();
  return {
    texts,
    get length() { return texts.size; },
    key: (index) => [...texts.keys()][index] ?? null,
    getItem: (key) => texts.get(key) ?? null,
    setItem: (key, text) => void texts.set(key, String(text)),
    removeItem: (key) => void texts.delete(key),
  };
}

/** A tab of the browser that has `kept`. Another host name is another browser. */
function tab(kept = storage(), { host = url, user = "", ...options } = {}) {
  const chats = new Chats(`${host}/sessions`, { headers, storage: kept, user, undoFor: 300, ...options });
  open.add(chats);
  return chats;
}

const MOST_SESSIONS = 130;
const elsewhere = url.replace("127.0.0.1", "127.1");

function close(chats) {
  open.delete(chats);
  chats.close();
}

async function until(condition, what, seconds = 20) {
  for (const end = Date.now() + seconds * 1000; !(await condition()); await pause(10)) {
    if (Date.now() > end) throw new Error(`this did not come: ${what}`);
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const count = (chunks = 3, pause = 0) => JSON.stringify({ kind: "count", chunks, pause });
const told = (chunks) => Array.from({ length: chunks }, (_, number) => `${number} `).join("");

/** Two tabs of a browser, of which the first one leads, and what the browser keeps. */
async function twoTabs() {
  const kept = storage();
  const one = tab(kept);
  await until(() => one.isLeader, "it leads");
  const two = tab(kept);
  await two.ready;
  return [one, two, kept];
}

/**
 * A tab that leads, and can fall asleep as a frozen one does: it hears nothing, says nothing and does not notice that its
 * lock is taken, until it wakes.
 */
async function sleeper(kept, options) {
  const { BroadcastChannel } = globalThis;
  const { locks } = navigator;
  let awake = Promise.resolve(), wake;
  globalThis.BroadcastChannel = class extends BroadcastChannel {
    set onmessage(hear) {
      super.onmessage = (event) => void awake.then(() => hear(event));
    }

    postMessage(told) {
      awake.then(() => super.postMessage(told));
    }
  };
  const request = (...given) => locks.request(...given).finally(() => awake);
  Object.defineProperty(navigator, "locks", { value: { request }, configurable: true });
  broken.fault = async (input, { ...options }) => {
    if (!options.headers["X-Sleeper"]) return realFetch(input, options);
    const answer = await realFetch(input, options);
    await awake;
    const slow = new TransformStream({ transform: (piece, controller) => awake.then(() => controller.enqueue(piece)) });
    return new Response(answer.body.pipeThrough(slow), { status: answer.status, headers: answer.headers });
  };
  const chats = tab(kept, { ...options, headers: () => ({ ...headers(), "X-Sleeper": "1" }) });
  await until(() => chats.isLeader, "it leads");
  globalThis.BroadcastChannel = BroadcastChannel;
  Object.defineProperty(navigator, "locks", { value: locks, configurable: true });
  return { chats, sleep: () => (awake = new Promise((resolve) => (wake = resolve))), wake: () => wake() };
}

/** A new conversation with a turn. */
async function talk(chats, content = count()) {
  const chat = chats.create();
  await chat.send(content);
  return chat;
}

/** Note each text of a reply that is no beginning of what counting gives. */
function noteWrong(chat, wrong) {
  chat.addEventListener("change", () => {
    const { status, content } = chat.messages.at(-1) ?? {};
    if (status === "streaming" && !told(300).startsWith(content)) wrong.push(content);
  });
}

/** Ask the server itself. It closes connections that nobody uses. */
async function ask(path, options = {}) {
  const given = { ...options, headers: { ...headers(), ...options.headers } };
  return realFetch(url + path, given).catch(() => realFetch(url + path, given));
}

/** Somebody else writes to a session. */
function say(id) {
  const headers = { "Content-Type": "application/json" };
  return ask(`/sessions/${id}/messages`, { method: "POST", headers, body: JSON.stringify({ content: count(1) }) });
}

async function stored(id) {
  const answer = await ask(`/sessions/${id}`);
  return answer.status === 404 ? null : (await answer.json()).history;
}

async function sessions() {
  return (await (await ask("/sessions?limit=1000")).json()).sessions;
}

const facts = (messages) => messages.map(({ id, role, content, status }) => ({ id, role, content, status }));

/** The page shows what the server has, each message once. */
async function same(chat) {
  await until(async () => {
    const there = await stored(chat.id);
    return there && JSON.stringify(facts(there)) === JSON.stringify(facts(chat.messages));
  }, "what the server has").catch(async () => assert.deepEqual(facts(chat.messages), facts((await stored(chat.id)) ?? [])));
}

/** A server that cannot be reached, as long as it is told so. */
const broken = { isAway: false, fault: null };
globalThis.fetch = async (input, options = {}) => {
  if (broken.isAway) throw new TypeError("fetch failed");
  return broken.fault ? broken.fault(input, options) : realFetch(input, options);
};

let state = Number(seed);

/** A number from 0 to 1, by the seed. */
function chance() {
  state = (state * 1103515245 + 12345) % 2147483648;
  return state / 2147483648;
}

/** A network that loses, doubles, delays and cuts. */
async function faulty(input, options) {
  const drawn = chance();
  if (chance() < 0.5) await pause(chance() * 60); // late, and so in another order
  if (drawn < 0.12) throw new TypeError("it never arrives");
  if (drawn < 0.2) await realFetch(input, { ...options, signal: undefined }).then((first) => first.body?.cancel()); // twice
  const answer = await realFetch(input, options);
  if (drawn < 0.32) {
    answer.body?.cancel();
    throw new TypeError("the answer is lost");
  }
  if (drawn > 0.75 && answer.body) {
    let left = 100 + chance() * 1500;
    const cut = new TransformStream({
      transform(piece, controller) {
        controller.enqueue(piece.slice(0, left));
        left -= piece.length;
        if (left <= 0) controller.error(new TypeError("cut"));
      },
    });
    return new Response(answer.body.pipeThrough(cut), { status: answer.status, headers: answer.headers });
  }
  return answer;
}

const scenarios = {
  async streams() {
    const chats = tab();
    const chat = chats.create({ title: "First" });
    const lengths = new Set();
    chat.addEventListener("change", () => lengths.add(chat.messages.at(-1)?.content.length));
    const asked = chat.send(count(30, 0.03));
    assert.deepEqual(chat.messages.map(({ role, status }) => [role, status]), [["user", "waiting"]]);
    const { value, error } = await asked;
    assert.equal(error, null);
    assert.equal(value.reply.content, told(30));
    assert.ok(lengths.size > 5, "it comes piece by piece");
    await same(chat);
    assert.equal((await sessions()).length, 1);
    assert.equal(chats.list[0].title, "First");
  },

  async "a new conversation is listed once"() {
    const kept = storage();
    const chats = tab(kept), other = tab(kept);
    await until(() => [chats, other].every(({ status }) => status === "online"), "both are online");
    const most = [0, 0];
    for (const [index, one] of [chats, other].entries()) {
      one.addEventListener("change", () => { most[index] = Math.max(most[index], one.list.length); });
    }
    await chats.create({ title: "First" }).send(count());
    await until(() => other.list.length === 1, "the list of the other tab");
    await pause(500);
    assert.deepEqual(most, [1, 1]);
  },

  async "a reload in the middle"() {
    const kept = storage();
    const before = tab(kept);
    const first = before.create();
    first.send(count(60, 0.03));
    await until(() => first.messages.at(-1)?.status === "streaming", "the reply begins");
    const id = first.id;
    close(before);
    const chats = tab(kept);
    const chat = chats.open(id);
    await until(() => chat.messages.at(-1)?.content === told(60) && !chat.isStreaming, "the whole reply");
    await same(chat);
    assert.equal(chat.messages.length, 2);
    assert.equal(chats.waiting, 0);
  },

  async "a server that knows a part only"() {
    const kept = storage();
    const before = tab(kept);
    const { id } = await talk(before);
    await same(before.open(id));
    await until(() => [...kept.texts.keys()].some((key) => key.endsWith(`s:${id}`)), "it is kept");
    const { messages } = before.open(id);
    let asked = 0;
    broken.fault = async (input, options) => {
      const answer = await realFetch(input, options);
      if (!input.includes("?last=")) return answer;
      asked += 1;
      return Response.json({ ...(await answer.json()), history: [], version: 1, partial: true });
    };
    await say(id);
    await until(() => asked > 1, "it is asked again");
    assert.deepEqual(facts(before.open(id).messages), facts(messages));
    close(before);
    const chat = tab(kept).open(id);
    await until(() => asked > 3, "it is asked again behind a reload");
    assert.deepEqual(facts(chat.messages), facts(messages));
    assert.equal(chat.error.type, "unavailable");
    broken.fault = null;
    await same(chat);
    assert.equal(chat.messages.length, 4);
    assert.equal(chat.error, null);
  },

  async "a reload before the answer"() {
    const kept = storage();
    broken.fault = async (input, options) => {
      await realFetch(input, options); // it arrives, and its answer is lost
      throw new TypeError("fetch failed");
    };
    const before = tab(kept);
    before.create().send(count());
    await pause(1500);
    close(before);
    broken.fault = null;
    const chats = tab(kept);
    await chats.ready;
    await until(() => chats.waiting === 0, "the queue is empty");
    assert.equal((await sessions()).length, 1, "one session");
    const chat = chats.open((await sessions())[0].session_id);
    await until(() => chat.messages.length === 2, "both messages");
    await same(chat);
  },

  async "tabs follow"() {
    const kept = storage();
    const one = tab(kept), two = tab(kept);
    await Promise.all([one.ready, two.ready]);
    await until(() => one.isLeader || two.isLeader, "one leads");
    assert.ok(one.isLeader !== two.isLeader, "one of them");
    const [leader, other] = one.isLeader ? [one, two] : [two, one];
    const mine = other.create();
    const asked = mine.send(count(60, 0.03));
    await until(() => mine.messages.at(-1)?.status === "streaming", "the reply comes in the tab that does not lead");
    const theirs = leader.open(mine.id), third = tab(kept);
    const late = third.open(mine.id);
    await until(() => late.isStreaming && late.messages.at(-1).content, "a tab that is late has the beginning");
    assert.ok(told(60).startsWith(late.messages.at(-1).content));
    assert.equal((await asked).value.reply.content, told(60));
    for (const chat of [mine, theirs, late]) await same(chat);
    assert.equal(other.list.length, 1);
    assert.equal(leader.list.length, 1);
  },

  async "a second tab knows what the first one knows"() {
    const kept = storage();
    const one = tab(kept);
    await until(() => one.status === "online", "it is online");
    await Promise.all(Array.from({ length: 60 }, () => one.create().send(count(1))));
    await until(() => one.list.length === 60 && one.list.every(({ pending }) => !pending), "the list");
    const two = tab(kept);
    await until(() => two.status === "online" && two.list.length === 60, "the other one is too");
    assert.equal(two.hasMore, one.hasMore);
    assert.equal(two.isLeader, false);
  },

  async "a login that has ended"() {
    const chats = tab();
    const chat = await talk(chats);
    let asked = 0;
    broken.fault = async () => {
      asked += 1;
      return Response.json({ type: "about:blank", status: 401 }, { status: 401 });
    };
    chat.send(count());
    await until(() => chats.status === "signed-out", "it is told");
    await pause(500);
    assert.ok(asked < 5, `it is not asked again and again: ${asked}`);
    assert.equal(chats.waiting, 1, "it waits for the next login");
  },

  async "the leader is closed in the middle"() {
    const [one, two] = await twoTabs();
    const chat = two.create();
    const asked = chat.send(count(80, 0.03));
    await until(() => chat.messages.at(-1)?.status === "streaming", "the reply begins");
    close(one);
    await until(() => two.isLeader, "the other one leads");
    assert.equal((await asked).value.reply.content, told(80));
    await same(chat);
  },

  async "the leader falls asleep in the middle, and wakes"() {
    const kept = storage(), wrong = [];
    const { chats: one, sleep, wake } = await sleeper(kept);
    const tabs = [tab(kept), tab(kept)];
    await until(() => tabs.every(({ status }) => status === "online"), "they follow");
    const chat = tabs[0].create();
    const asked = chat.send(count(150, 0.03));
    await until(() => chat.messages.at(-1)?.status === "streaming", "the reply comes");
    const theirs = tabs[1].open(chat.id), its = one.open(chat.id);
    await until(() => theirs.isStreaming && its.isStreaming, "it comes in all tabs");
    for (const each of [chat, theirs, its]) noteWrong(each, wrong);
    sleep();
    tabs.push(tab(kept)); // which has not heard of any leader
    const late = tabs[2].open(chat.id);
    noteWrong(late, wrong);
    await tabs[2].ready;
    const slept = its.send(count(1));
    await until(() => tabs.some(({ isLeader }) => isLeader), "another one leads", 8);
    assert.equal((await asked).value.reply.content, told(150));
    await say(chat.id);
    for (const each of [chat, theirs, late]) {
      await until(() => each.messages.length === 4, "another device is heard");
      await same(each);
    }
    wake();
    await until(() => !one.isLeader, "it leads no more");
    assert.equal(tabs.filter(({ isLeader }) => isLeader).length, 1, "one of the others does");
    assert.equal((await slept).error, null, "what it was asked meanwhile is sent");
    for (const each of [chat, theirs, its, late]) {
      await until(() => each.messages.length === 6, "all show it");
      await same(each);
    }
    assert.equal((await its.send(count(60, 0.03))).value.reply.content, told(60));
    for (const each of [chat, theirs, its, late]) await same(each);
    assert.deepEqual(wrong.slice(0, 1), [], `${wrong.length} wrong texts`);
    for (const each of tabs) close(each);
    await until(() => one.isLeader, "it leads again when it is the last one");
    assert.equal((await its.send(count(1))).error, null);
    await same(its);
  },

  async "the leader falls asleep while a removal can be undone"() {
    const kept = storage();
    const { chats: one, sleep, wake } = await sleeper(kept, { undoFor: 60_000 });
    const two = tab(kept, { undoFor: 60_000 }), three = tab(kept, { undoFor: 60_000 });
    await until(() => three.status === "online", "they follow");
    const chat = await talk(two);
    sleep();
    two.remove(chat.id);
    assert.equal(await two.undo(chat.id), true);
    assert.equal(two.list.length, 1);
    wake();
    await until(() => !one.isLeader, "it leads no more");
    await pause(500);
    for (const each of [one, two, three]) assert.deepEqual([each.list.length, each.waiting], [1, 0]);
    assert.equal((await sessions()).length, 1);
  },

  async "tabs that do not lead ask the leader once"() {
    const kept = storage();
    const one = tab(kept);
    await until(() => one.isLeader, "it leads");
    const tabs = [tab(kept), tab(kept)], device = tab(storage(), { host: elsewhere });
    const theirs = await talk(device);
    const asked = theirs.send(count(60, 0.03));
    await until(() => theirs.isStreaming, "a reply comes on another device");
    let heard = 0;
    const ears = new BroadcastChannel(`convstore:${url}/sessions`);
    ears.onmessage = ({ data }) => (heard += Boolean(data.follow));
    const chats = tabs.map((each) => each.open(theirs.id));
    await asked;
    for (const each of chats) await same(each);
    ears.close();
    assert.ok(heard > 0 && heard < 20, `${heard} messages`);
    assert.ok(one.isLeader);
  },

  async "devices follow"() {
    const one = tab(), two = tab(storage(), { host: elsewhere });
    const mine = await talk(one);
    await until(() => two.list.length === 1, "the list of the other device");
    const theirs = two.open(mine.id);
    await same(theirs);
    const asked = mine.send(count(60, 0.03));
    await until(() => theirs.isStreaming, "the reply streams on the other device");
    await asked;
    await same(theirs);
    await two.rename(mine.id, "New");
    await until(() => one.list[0].title === "New", "the title");
    await theirs.edit(theirs.messages[0].id, "edited");
    await until(() => mine.messages[0].content === "edited", "the edit");
    await two.remove(mine.id);
    await until(() => one.list.length === 0 && mine.state === "gone", "the removal");
  },

  async "offline and back"() {
    const chats = tab();
    const chat = await talk(chats);
    broken.isAway = true;
    const asked = [chat.send(count(1)), chat.send(count(2)), chat.send(count(3))];
    await until(() => chats.status === "offline", "it is noticed");
    assert.deepEqual(chat.messages.slice(2).map(({ status }) => status), ["waiting", "waiting", "waiting"]);
    assert.equal(chats.waiting, 3);
    const other = chats.create();
    other.send(count(4));
    broken.isAway = false;
    const found = await Promise.all(asked);
    assert.deepEqual(found.map(({ value }) => value.reply.content), [told(1), told(2), told(3)]);
    await same(chat);
    assert.deepEqual(chat.messages.map(({ content }) => content).filter((_, index) => index % 2 === 0),
      [count(), count(1), count(2), count(3)]);
    await until(() => chats.waiting === 0, "all");
    await same(other);
    assert.equal((await sessions()).length, 2);
  },

  async "stop, regenerate, edit and resend, redact"() {
    const chats = tab();
    const chat = chats.create();
    chat.send(count(500, 0.02));
    await until(() => chat.messages.at(-1)?.status === "streaming" && chat.messages.at(-1).content, "it streams");
    assert.equal((await chat.stop()).value.status, "stopped");
    await until(() => !chat.isStreaming, "its end");
    await same(chat);
    assert.equal(chat.messages[1].status, "stopped");
    await chat.send(count(2));
    const [reply] = chat.messages.slice(-1);
    const twice = await Promise.all([chat.regenerate(reply.id), chat.regenerate(reply.id)]);
    assert.equal(twice.filter(({ error }) => !error).length, 1, "pressed twice it happens once");
    await same(chat);
    assert.equal(chat.messages.length, 4);
    const edited = chat.messages[2];
    const { value } = await chat.send(count(4), { replaces: edited.id });
    assert.equal(value.reply.content, told(4));
    await same(chat);
    assert.equal(chat.messages.length, 4);
    const redacting = chat.redact(chat.messages[3].id);
    assert.equal(chat.messages[3].status, "redacted", "at once");
    await redacting;
    await same(chat);
  },

  async "failures are shown"() {
    const chats = tab();
    const chat = await talk(chats);
    const { error } = await chat.send("no json at all");
    assert.equal(error.type, "reply-failed");
    assert.deepEqual(chats.failed.map(({ kind }) => kind), ["send"]);
    assert.equal(chat.messages.at(-1).status, "failed");
    assert.equal((await chats.retry(chat.messages.at(-1).key)).error.type, "reply-failed");
    assert.equal((await chats.discard(chat.messages.at(-1).key)).content, "no json at all");
    await same(chat);
    assert.equal((await chat.edit("none", "x")).error.status, 404);
    assert.equal((await chat.send("x".repeat(3_000_000))).error.status, 413);
    assert.equal(chats.failed.length, 2);
    for (const { key } of chats.failed) await chats.discard(key);
    const rename = await chats.rename(chat.id, "a\nb");
    assert.equal(rename.error.status, 422);
    assert.notEqual(chats.list[0].title, "a\nb", "it is taken back");
    const conflict = await chat.send(count(), { replaces: "none" });
    assert.equal(conflict.error.status, 409);
  },

  async "remove and undo"() {
    const chats = tab();
    const chat = await talk(chats);
    const removing = chats.remove(chat.id);
    assert.equal(chats.list.length, 0, "at once");
    assert.equal(chats.removed.length, 1);
    assert.equal(await chats.undo(chat.id), true);
    assert.equal((await removing).error.type, "aborted");
    assert.equal(chats.list.length, 1);
    await pause(600);
    assert.equal((await sessions()).length, 1);
    await Promise.all([chats.remove(chat.id), chats.remove(chat.id)]);
    assert.equal((await sessions()).length, 0);
    assert.equal(chat.state, "gone");
    assert.equal(await chats.undo(chat.id), false);
  },

  async "an expired session"() {
    const chats = tab();
    const chat = await talk(chats);
    await ask(`/sessions/${chat.id}`, { method: "DELETE" });
    assert.equal((await chat.send("lost?")).error.status, 404);
    await until(() => chat.state === "gone" && chats.list.length === 0, "it is gone");
    assert.equal(chats.failed[0].content, "lost?", "its text is not lost");
  },

  async "more sessions than one may have"() {
    const chats = tab();
    for (let number = 0; number < MOST_SESSIONS; number += 1) assert.equal((await chats.create().send(count(1))).error, null);
    const chat = chats.create();
    chat.send("one more");
    await until(() => chats.failed.length === 1, "it is refused");
    assert.equal(chats.failed[0].error.type, "too-many-sessions");
    const [message] = chat.messages;
    assert.deepEqual([message.status, message.error.type], ["failed", "too-many-sessions"]);
    await chats.remove(chats.list.at(-1).session_id);
    await chats.retry(message.key);
    await until(() => chats.waiting === 0, "now it fits");
    assert.equal(chats.failed[0].error.type, "reply-failed", "the rule takes no such text");
    const none = chats.create();
    none.send("and another");
    await until(() => none.messages[0]?.status === "failed", "it is refused");
    assert.equal((await chats.discard(none.messages[0].key)).content, "and another");
    assert.equal(chats.waiting, 0);
    assert.equal(chats.list.length, MOST_SESSIONS);
  },

  async "pages and search"() {
    const chats = tab();
    const many = Array.from({ length: 120 }, (_, number) => ({
      id: `old-${number}`, title: `Title ${number}`, messages: [{ role: "user", content: `text ${number}`, timestamp: 1000 + number }],
    }));
    const first = await chats.importOnce("conversations", many);
    assert.deepEqual(first, { value: { imported: 120, failed: [] }, error: null });
    assert.equal((await chats.importOnce("conversations", many)).value.imported, 120, "the same, and nothing is sent");
    const late = tab(storage(), { host: elsewhere });
    for (const one of [chats, late]) {
      await until(async () => {
        if (one.hasMore) assert.equal((await one.more()).error, null);
        return one.list.length === 120;
      }, "all pages");
    }
    assert.equal(chats.search("title 77")[0].title, "Title 77");
    const again = await tab(storage(), { host: elsewhere }).importOnce("conversations", many);
    assert.equal(again.value.imported, 0, "another browser brings nothing twice");
    assert.equal((await sessions()).length, 120);
    const id = chats.search("Title 5")[0].session_id;
    const chat = chats.open(id);
    await until(() => chat.messages.length === 1, "it is read");
    for (let number = 0; number < 70; number += 1) {
      await say(id);
    }
    const long = tab(storage(), { host: elsewhere }).open(id);
    await until(() => long.messages.length === 50 && long.hasOlder, "the newest");
    while (long.hasOlder) assert.equal((await long.older()).error, null);
    await same(long);
    assert.equal(long.messages.length, 141);
  },

  async "signing out"() {
    const kept = storage();
    const chats = tab(kept, { user: "ada" }), other = tab(kept, { user: "ada" });
    const chat = await talk(chats);
    await pause(500);
    assert.ok([...kept.texts.values()].some((text) => text.includes("count")), "it was kept");
    await chats.signOut();
    await until(() => other.status === "signed-out", "the other tab");
    await pause(500);
    assert.deepEqual([...kept.texts.keys()], [], "nothing is kept");
    assert.deepEqual([chats.list, other.list, chat.messages], [[], [], []]);
    const bob = tab(kept, { user: "bob", headers: () => ({ "X-Owner": `bob-${owner}` }) });
    await bob.ready;
    assert.deepEqual(bob.list, []);
  },

  async "another user finds nothing"() {
    const kept = storage();
    const ada = tab(kept, { user: "ada" });
    await ada.create().send(count());
    await pause(500);
    const bob = tab(kept, { user: "bob", headers: () => ({ "X-Owner": `bob-${owner}` }) });
    await bob.ready;
    await until(() => ada.status === "signed-out", "the tab of the one before");
    assert.deepEqual(bob.list, []);
    assert.ok(![...kept.texts.values()].some((text) => text.includes("count")));
  },

  async "signals end the waiting"() {
    broken.isAway = true;
    const chats = tab();
    const chat = chats.create();
    assert.equal((await chat.send(count(), { signal: AbortSignal.timeout(300) })).error.type, "aborted");
    assert.equal((await chats.more({ signal: AbortSignal.abort() })).error.type, "aborted");
    broken.isAway = false;
    await until(() => chats.waiting === 0, "it goes on all the same");
    await same(chat);
  },

  async "the queue has an end"() {
    broken.isAway = true;
    const chats = tab();
    const chat = chats.create();
    const asked = Array.from({ length: 200 }, (_, number) => chat.send(`${number}`));
    assert.equal((await asked.at(-1)).error.type, "queue-full");
    assert.equal(chats.waiting, 200);
  },

  async "a tab sends at once, before it is ready"() {
    const kept = storage();
    const one = tab(kept);
    await until(() => one.isLeader, "it leads");
    const two = tab(kept);
    const asked = two.create().send(count());
    await until(() => two.waiting === 0, "it is sent", 3);
    assert.equal((await asked).error, null);
  },

  async "not signed in any more"() {
    const chats = tab();
    const chat = await talk(chats);
    let asked = 0;
    broken.fault = async (input, options) => {
      if (options.method === "POST") asked += 1;
      await pause(10);
      return new Response('{"type":"urn:convstore:owner-required","detail":"Log in."}', { status: 401 });
    };
    chat.send(count());
    await pause(1500);
    broken.fault = null;
    assert.ok(asked < 10, `it is not asked without end: ${asked}`);
    await until(() => chats.waiting === 0, "it is sent when somebody has signed in again", 40);
    await same(chat);
  },

  async "the leader is closed while another tab shows a reply of another device"() {
    const kept = storage();
    const one = tab(kept), device = tab(storage(), { host: elsewhere });
    await until(() => one.isLeader, "it leads");
    const mine = await talk(device);
    const two = tab(kept);
    await two.ready;
    const theirs = two.open(mine.id);
    await same(theirs);
    const asked = mine.send(count(80, 0.03));
    await until(() => theirs.isStreaming && theirs.messages.at(-1).content, "it comes in the tab that does not lead");
    close(one);
    await until(() => two.isLeader, "the other one leads");
    await asked;
    await pause(500);
    assert.equal(theirs.isStreaming, false, "it has ended");
    await same(theirs);
  },

  async "another device writes while this one sends"() {
    const one = tab(), device = tab(storage(), { host: elsewhere });
    const mine = await talk(one);
    const theirs = device.open(mine.id);
    await same(theirs);
    const asked = theirs.send(count(20, 0.05));
    const also = mine.send(count(2));
    await Promise.all([asked, also]);
    await pause(1000);
    await same(mine);
    await same(theirs);
  },

  async "a shared session stays open behind a reload"() {
    const chats = tab();
    const chat = await talk(chats);
    const guest = `guest-${owner}`;
    const name = "/share/" + chat.id + "/" + guest;
    assert.equal((await ask(name, { method: "POST" })).status, 200);
    const kept = storage(), other = { headers: () => ({ "X-Owner": guest }), host: elsewhere };
    const before = tab(kept, other);
    await before.create().send(count());
    const seen = before.open(chat.id);
    await until(() => seen.messages.length === 2, "the guest reads it");
    await pause(500);
    close(before);
    const after = tab(kept, other);
    await after.ready;
    const again = after.open(chat.id);
    await until(() => after.status === "online" && again.messages.length === 2, "read again");
    await pause(1500);
    assert.equal(again.state, "ready", "it is not gone");
  },

  async "undo in a tab that does not lead, too late"() {
    const [, two] = await twoTabs();
    const chat = await talk(two);
    broken.fault = async (input, options) => {
      if (options.method === "DELETE") await pause(1000);
      return realFetch(input, options);
    };
    two.remove(chat.id);
    await pause(800);
    const isBack = await two.undo(chat.id);
    await pause(1200);
    assert.equal(isBack, Boolean(await stored(chat.id)), "what it said is so");
  },

  async "discard in a tab that does not lead, while it is on its way"() {
    const [, two] = await twoTabs();
    const chat = await talk(two);
    chat.send(count(40, 0.03));
    await until(() => chat.isStreaming, "it comes");
    const given = await two.discard(chat.messages.find(({ content }) => content === count(40, 0.03)).id);
    assert.equal(given, null, "it is too late");
  },

  async "sending while the session is being made"() {
    const kept = storage();
    const chats = tab(kept);
    const chat = chats.create();
    await chats.ready;
    chat.send(count(1));
    let isSent = false;
    chats.addEventListener("change", ({ detail }) => {
      if (!chat.id.startsWith("local-") && !isSent && detail.what === "chat") {
        isSent = true;
        chat.send(count(2)); // a person presses the key in this moment
      }
    });
    await until(() => isSent, "the moment");
    await until(() => chats.waiting === 0, "all is sent", 5);
    assert.deepEqual(chats.failed, []);
    await same(chat);
    assert.equal(chat.messages.length, 4);
  },

  async "sign-out while a tab opens"() {
    const kept = storage();
    const one = tab(kept, { user: "ada" });
    const chat = await talk(one);
    await pause(500);
    const two = tab(kept, { user: "ada" });
    await one.signOut();
    await two.ready;
    await pause(500);
    assert.equal(two.status, "signed-out");
    assert.deepEqual(two.list, []);
    assert.deepEqual([...kept.texts.keys()], []);
  },

  async "sign-out while a page of older sessions comes"() {
    const kept = storage();
    const chats = tab(kept, { user: "ada" });
    const chat = chats.create();
    for (let number = 0; number < 3; number += 1) await chat.send(count(1));
    await until(() => chats.list.length === 1, "");
    broken.fault = async (input, options) => {
      const answer = await realFetch(input, options);
      await pause(300);
      return answer;
    };
    const more = chats.more();
    await chats.signOut();
    await more;
    assert.deepEqual(chats.list, [], "nothing is shown");
  },

  async "sign-out while an import goes on"() {
    const kept = storage();
    const chats = tab(kept, { user: "ada" });
    const many = Array.from({ length: 60 }, (_, number) => ({ id: `n-${number}`, title: `T`, messages: [] }));
    let lines = 0;
    broken.fault = async (input, options) => {
      if (`${input}`.endsWith("/import")) lines += 1;
      return realFetch(input, options);
    };
    const importing = chats.importOnce("old", many);
    await until(() => lines === 1, "it begins");
    await chats.signOut();
    await importing;
    assert.equal(lines, 1, "nothing more is sent");
    assert.deepEqual([...kept.texts.keys()], []);
  },

  async "sign-out behind an import"() {
    const kept = storage();
    const chats = tab(kept, { user: "ada" });
    const old = [{ id: "n-1", title: "T", messages: [] }];
    await chats.importOnce("old", old);
    await chats.signOut();
    assert.deepEqual([...kept.texts.keys()], []);
    const bob = tab(kept, { user: "bob", headers: () => ({ "X-Owner": `bob-${owner}` }) });
    assert.equal((await bob.importOnce("old", old)).value.imported, 1);
  },

  async "sign-out behind a close"() {
    const kept = storage();
    const one = tab(kept, { user: "ada" }), two = tab(kept, { user: "ada" });
    const chat = await talk(one);
    await pause(500);
    one.close();
    await one.signOut();
    await pause(500);
    assert.equal(one.status, "signed-out");
    assert.deepEqual(one.list, []);
    assert.equal(two.status, "signed-out");
    assert.deepEqual([...kept.texts.keys()], []);
  },

  async "something is done behind a close"() {
    const kept = storage();
    const chats = tab(kept);
    const chat = await talk(chats);
    close(chats);
    const asked = chat.send(count());
    const result = await Promise.race([asked, pause(3000)]);
    assert.equal(result?.error?.type, "aborted", "it has an answer");
  },

  async "an answer that is not the server's"() {
    const chats = tab();
    const chat = await talk(chats);
    const seen = chats.open(chat.id);
    broken.fault = async (input, options) => {
      if (!options.method || options.method === "GET") return new Response("{}", { status: 200 });
      return realFetch(input, options);
    };
    const unhandled = [];
    process.on("unhandledRejection", (reason) => unhandled.push(`${reason}`));
    chats.open(chat.id);
    await pause(300);
    broken.fault = null;
    assert.deepEqual(unhandled, []);
    await say(chat.id);
    chats.open(chat.id);
    await same(chat);
    assert.equal((await chat.older()).error, null);
  },

  async "content that cannot be cloned"() {
    const chats = tab();
    const chat = chats.create();
    const result = await chat.send(new Proxy({ text: "of a framework" }, {})).catch((error) => `${error}`);
    assert.equal(typeof result, "object", `it throws nothing: ${result}`);
  },

  async "a removed conversation is not sent"() {
    broken.isAway = true;
    const chats = tab();
    const chat = chats.create();
    chat.send(count());
    await pause(100);
    chats.remove(chat.id);
    await pause(500);
    let posts = 0;
    broken.fault = async (input, options) => {
      if (options.method === "POST" && `${input}`.endsWith("/messages")) posts += 1;
      return realFetch(input, options);
    };
    broken.isAway = false;
    await until(() => chats.waiting === 0, "all");
    assert.equal(posts, 0, "nothing that was removed is sent");
  },

  async "removing what could not be made"() {
    const chats = tab();
    broken.fault = async (input, options) => options.method === "POST" ? new Response("no", { status: 403 }) : realFetch(input, options);
    const chat = chats.create();
    chat.send(count());
    await until(() => chats.failed.length, "it is refused");
    chats.remove(chat.id);
    await pause(1000);
    assert.deepEqual([chats.waiting, chats.failed.length], [0, 0], "it is gone");
  },

  async "removing while a reply comes"() {
    const chats = tab();
    const chat = chats.create();
    chat.send(count(200, 0.05));
    await until(() => chat.isStreaming, "it comes");
    const begun = Date.now();
    await Promise.race([chats.remove(chat.id), pause(5000)]);
    assert.ok(Date.now() - begun < 3000, "it does not wait for the end of the reply");
    assert.equal(await stored(chat.id), null);
  },

  async "the clock goes back behind a reload"() {
    broken.isAway = true;
    const kept = storage();
    const before = tab(kept);
    const first = before.create();
    first.send(count(1));
    await pause(200);
    close(before);
    const now = Date.now;
    Date.now = () => now() - 3_600_000;
    const chats = tab(kept);
    await chats.ready;
    const chat = chats.open(first.id);
    chat.send(count(2));
    broken.isAway = false;
    await until(() => chats.waiting === 0, "all", 20);
    Date.now = now;
    assert.deepEqual(chats.failed, []);
    const [only] = await sessions();
    assert.deepEqual((await stored(only.session_id)).filter(({ role }) => role === "user").map(({ content }) => content), [count(1), count(2)]);
  },

  async "a pending conversation is ready behind a reload"() {
    broken.isAway = true;
    const kept = storage();
    const before = tab(kept);
    const first = before.create();
    first.send(count(1));
    await pause(200);
    close(before);
    const chats = tab(kept);
    await chats.ready;
    assert.equal(chats.open(first.id).state, "ready");
  },

  async "an id of before it was made"() {
    const kept = storage();
    const before = tab(kept);
    const first = before.create();
    const local = first.id;
    await first.send(count(1));
    await pause(500);
    close(before);
    const chats = tab(kept);
    await chats.ready;
    const chat = chats.open(local);
    await pause(500);
    assert.notEqual(chat.state, "loading", "it does not load for ever");
  },

  async "an invalid title"() {
    const chats = tab();
    const chat = chats.create({ title: "a\nb" });
    chat.send(count());
    await until(() => chats.failed.length || chats.waiting === 0, "");
    await pause(500);
    assert.equal(chats.list.length, 1, "one session in the list");
    assert.equal((await stored((await sessions())[0].session_id)).length, 2, "the message is sent");
  },

  async "stop before the reply begins"() {
    const chats = tab();
    const chat = await talk(chats);
    broken.fault = async (input, options) => {
      if (options.method === "POST") await pause(500);
      return realFetch(input, options);
    };
    const asked = chat.send(count(100, 0.03));
    await pause(100);
    await chat.stop();
    const { value } = await asked;
    assert.equal(value.reply?.status, "stopped");
  },

  async "the text has no piece twice when a tab takes over"() {
    const [one, two] = await twoTabs();
    const chat = two.create();
    const wrong = [];
    noteWrong(chat, wrong);
    const asked = chat.send(count(80, 0.03));
    await until(() => chat.messages.at(-1)?.status === "streaming" && chat.messages.at(-1).content, "the reply begins");
    close(one);
    await asked;
    assert.deepEqual(wrong.slice(0, 1), []);
  },

  async "an edit of what waits"() {
    broken.isAway = true;
    const chats = tab();
    const chat = chats.create();
    chat.send(count(1));
    chat.edit(chat.messages[0].id, "edited");
    assert.equal(chat.messages[0].content, "edited", "at once");
  },

  async "two who look at the same session"() {
    const chats = tab();
    const made = await talk(chats);
    const one = chats.open(made.id), two = chats.open(made.id);
    one.close();
    await say(made.id);
    await until(() => two.messages.length === 4, "the other one still follows", 3);
  },

  async "more than all"() {
    const chats = tab();
    await chats.create().send(count());
    await until(() => chats.list.length === 1, "");
    await pause(500);
    assert.equal(chats.hasMore, false);
    const { value } = await chats.more();
    assert.deepEqual(value, []);
  },

  async "no login for a while"() {
    let isIn = true;
    const chats = tab(storage(), { headers: () => (isIn ? { "X-Owner": owner } : {}) });
    const chat = await talk(chats);
    await until(() => chats.list.length === 1, "the list");
    isIn = false;
    chats.open(chat.id);
    await pause(1000);
    isIn = true;
    await say(chat.id);
    await until(() => chats.list.length === 1, "it is in the list again");
    await until(() => chats.open(chat.id).state === "ready", "it is read again");
  },

  async "events that have no login once"() {
    let isIn = true;
    const kept = storage();
    broken.fault = async (input, options) => {
      if (`${input}`.endsWith("/events")) return new Response("no", { status: 401 });
      return realFetch(input, options);
    };
    const chats = tab(kept);
    await pause(500);
    broken.fault = null;
    await ask("/sessions", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
    await until(() => chats.list.length === 1, "what is new is listed once the login is there", 40);
  },

  async "many opens leave nothing behind"() {
    const chats = tab();
    const made = await talk(chats);
    let reads = 0;
    broken.fault = async (i, o) => { if (`${i}`.includes("?last=")) reads += 1; return realFetch(i, o); };
    for (let n = 0; n < 500; n += 1) { const c = chats.open(made.id); c.close(); }
    await pause(2000);
    assert.ok(reads < 20, `${reads} reads`);
  },

  async "two conversations stream at once"() {
    const chats = tab();
    const one = chats.create(), two = chats.create();
    const wrong = [];
    for (const chat of [one, two]) {
      noteWrong(chat, wrong);
    }
    const asked = [one.send(count(40, 0.03)), two.send(count(60, 0.03))];
    await until(() => one.isStreaming && two.isStreaming, "both stream", 3);
    const found = await Promise.all(asked);
    assert.deepEqual(found.map(({ value }) => value.reply.content), [told(40), told(60)]);
    assert.deepEqual(wrong.slice(0, 1), []);
    for (const chat of [one, two]) await same(chat);
  },

  async "the room of the browser is used up"() {
    const kept = storage();
    kept.setItem = () => { throw new DOMException("full", "QuotaExceededError"); };
    const chats = tab(kept);
    const chat = chats.create();
    const { value, error } = await chat.send(count());
    assert.deepEqual([error, value.reply.content], [null, told(3)]);
    assert.equal((await chats.rename(chat.id, "New")).error, null);
    await same(chat);
    assert.deepEqual([chats.waiting, kept.length], [0, 0]);
  },

  async "a broken value is kept"() {
    const kept = storage();
    kept.setItem(`convstore:${url}/sessions:user`, '""');
    kept.setItem(`convstore:${url}/sessions:s:x`, '{"session_id": "x", "his');
    const chats = tab(kept);
    assert.equal(await chats.ready.catch((error) => `${error}`), undefined, "it is ready all the same");
    assert.equal((await chats.create().send(count())).error, null);
  },

  async "another user signs in while a tab of the first one writes"() {
    const kept = storage();
    const ada = tab(kept, { user: "ada" });
    const chat = await talk(ada);
    await pause(500);
    broken.isAway = true; // what she writes waits
    const bob = tab(kept, { user: "bob", headers: () => ({ "X-Owner": `bob-${owner}` }) });
    for (let number = 0; number < 20 && ada.status !== "signed-out"; number += 1) {
      chat.send(`private ${number}`);
      await Promise.resolve();
    }
    await bob.ready;
    broken.isAway = false;
    await pause(300);
    const found = [...kept.texts.values()].filter((text) => text.includes("private"));
    assert.deepEqual([bob.waiting, bob.failed.length], [0, 0], "nothing of hers is sent by his tab");
    assert.deepEqual(found, []);
  },

  async "a tab that does not lead shows what it did"() {
    const [one, two] = await twoTabs();
    const chat = await talk(two);
    await until(() => two.list.length === 1, "the list");
    await two.rename(chat.id, "New");
    assert.equal(two.list[0].title, "New", "the title is not the old one for a moment");
    await chat.edit(chat.messages[0].id, "edited");
    assert.equal(chat.messages[0].content, "edited", "the message is not the old one for a moment");
  },

  async "a tab that does not lead shows a JSON answer"() {
    const [, two] = await twoTabs();
    broken.fault = (input, options) => realFetch(input, { ...options, headers: { ...options.headers, Accept: "application/json" } });
    const chat = await talk(two);
    assert.equal(chat.messages.length, 2, "the message is there all the time");
  },

  async "tabs that lead each for itself"() {
    Object.defineProperty(navigator, "locks", { value: undefined });
    const kept = storage();
    const one = tab(kept), two = tab(kept), device = tab(storage(), { host: elsewhere });
    const mine = await talk(device);
    const chats = [one.open(mine.id), two.open(mine.id)];
    const wrong = [];
    for (const chat of chats) {
      await until(() => chat.messages.length === 2, "");
      noteWrong(chat, wrong);
    }
    await mine.send(count(60, 0.03));
    for (const chat of chats) await same(chat);
    assert.deepEqual(wrong.slice(0, 1), [], `${wrong.length} wrong texts`);
  },

  async "a signal of long life has no listeners"() {
    const { getEventListeners } = await import("node:events");
    const chats = tab();
    const chat = chats.create();
    const { signal } = new AbortController();
    for (let number = 0; number < 20; number += 1) {
      await chat.send(count(1), { signal });
      await chat.older({ signal });
    }
    assert.equal(getEventListeners(signal, "abort").length, 0);
  },

  async "a server that asks for a long pause"() {
    const chats = tab();
    const chat = await talk(chats);
    let asked = 0;
    broken.fault = async (input, options) => {
      if (options.method !== "POST") return realFetch(input, options);
      asked += 1;
      await pause(5);
      return new Response("wait", { status: 503, headers: { "Retry-After": "2592000" } });
    };
    chat.send(count());
    await pause(1500);
    assert.ok(asked < 5, `${asked} requests`);
  },

  async "closed while it waits"() {
    const chats = tab();
    const chat = chats.create();
    const asked = chat.send(count());
    chat.close();
    await asked;
    await pause(300);
    assert.notEqual(chats.open(chat.id), chat, "nothing holds it");
  },

  async "a title before the first message"() {
    const chats = tab();
    const chat = chats.create();
    await chats.rename(chat.id, "Mine");
    await chat.send(count());
    await until(() => chats.list.length === 1, "");
    assert.equal(chats.list[0].title, "Mine");
    assert.deepEqual(chats.failed, []);
  },

  async "undo of a removal that has failed"() {
    const chats = tab();
    const chat = await talk(chats);
    broken.fault = async (input, options) => (options.method === "DELETE" ? new Response("no", { status: 403 }) : realFetch(input, options));
    await chats.remove(chat.id);
    assert.equal(chats.list.length, 1, "it is back");
    broken.fault = null;
    await chats.remove(chat.id);
    assert.equal((await sessions()).length, 0);
    assert.equal(chats.failed.length, 0, "the failure is over");
  },

  async "discarded elsewhere while it fails"() {
    const [one, two] = await twoTabs();
    const chat = await talk(two);
    broken.fault = async (input, options) => {
      if (options.method !== "PATCH") return realFetch(input, options);
      await pause(500);
      return new Response("no", { status: 403 });
    };
    two.rename(chat.id, "x");
    await pause(200);
    const [key] = two.actionsOf(chat.id).map((one) => one.key);
    const given = await two.discard(key);
    await pause(700);
    assert.ok(!given || (one.failed.length === 0 && two.failed.length === 0), "what was given up does not come back");
  },

  async "a read that fails once"() {
    const chats = tab(), device = tab(storage(), { host: elsewhere });
    const mine = await talk(chats);
    const theirs = device.open(mine.id);
    await same(theirs);
    let isBroken = true;
    broken.fault = async (input, options) => {
      if (!isBroken || !`${input}`.startsWith(elsewhere) || !`${input}`.includes("?last=")) return realFetch(input, options);
      isBroken = false;
      return new Response("<html>", { status: 502 });
    };
    await mine.edit(mine.messages[0].id, "edited");
    await until(() => !isBroken, "it reads");
    await until(() => theirs.messages[0].content === "edited", "it reads again", 5);
  },

  async "a list that fails once"() {
    const device = tab(storage(), { host: elsewhere });
    await until(() => device.status === "online", "it hears events");
    await pause(500);
    let isBroken = true;
    broken.fault = async (input, options) => {
      if (!isBroken || !`${input}`.startsWith(elsewhere) || !`${input}`.includes("?limit=")) return realFetch(input, options);
      isBroken = false;
      return new Response("<html>", { status: 502 });
    };
    await tab().create({ title: "New" }).send(count());
    await until(() => !isBroken, "it reads");
    await until(() => device.list.length === 1, "it reads again", 5);
  },

  async "a signal ends the waiting for older messages"() {
    const chats = tab();
    broken.fault = (input, options) => new Promise((resolve, reject) => options.signal?.addEventListener("abort", () => reject(new Error("aborted"))));
    await chats.ready;
    const chat = chats.open("some");
    await pause(100); // it is being read
    const result = await Promise.race([chat.older({ signal: AbortSignal.timeout(300) }), pause(2000)]);
    assert.equal(result?.error?.type, "aborted");
  },

  async "the session that was used last stays kept"() {
    const kept = storage();
    const shown = (id) => ({ session_id: id, title: null, updated_at: "2026-01-01T00:00:00.000Z", history: [] });
    const before = tab(kept);
    await before.ready;
    for (let number = 0; number < 49; number += 1) await before.keepSession(shown(`m-${number}`));
    await pause(5);
    await before.keepSession(shown("a-used-last"));
    close(before);
    const chats = tab(kept);
    await chats.ready;
    await chats.keepSession(shown("z-new"));
    assert.ok([...kept.texts.keys()].some((key) => key.endsWith("a-used-last")));
  },

  async "a conversation that was compacted elsewhere"() {
    const chats = tab();
    const chat = await talk(chats);
    const answer = await ask(`/sessions/${chat.id}/compact`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ summary: "They count." }) });
    const { session_id } = await answer.json();
    assert.equal((await chat.send(count())).error.type, "moved");
    await until(() => chat.movedTo === session_id, "where it goes on");
    const next = chats.open(chat.movedTo);
    assert.equal((await next.send(count())).error, null);
    await same(next);
  },

  async "a message keeps what was to be removed"() {
    const kept = storage();
    const one = tab(kept), two = tab(kept);
    const chat = await talk(one);
    const other = two.open(chat.id);
    await same(other);
    const removing = one.remove(chat.id);
    await until(() => two.removed.length === 1, "the other tab knows");
    assert.equal((await other.send(count(2))).error, null);
    assert.equal((await removing).error.type, "aborted");
    await pause(500);
    await same(chat);
    assert.equal(chat.messages.length, 4);
  },

  async "replies of another device come one after the other"() {
    const chats = tab(), device = tab(storage(), { host: elsewhere });
    const theirs = [await talk(device), await talk(device)];
    const mine = theirs.map(({ id }) => chats.open(id));
    for (const chat of mine) await same(chat);
    const asked = [theirs[0].send(count(60, 0.03))];
    await until(() => mine[0].isStreaming, "the first one comes");
    asked.push(theirs[1].send(count(160, 0.03)));
    await asked[0];
    await until(() => mine[1].isStreaming, "the second one comes", 2);
    await Promise.all(asked);
    for (const chat of mine) await same(chat);
  },

  async "what was gone and is back is kept"() {
    const kept = storage();
    let isIn = true;
    const chats = tab(kept, { headers: () => (isIn ? { "X-Owner": owner } : {}) });
    const chat = await talk(chats);
    isIn = false;
    chats.open(chat.id);
    await until(() => chat.state === "gone", "it is gone");
    isIn = true;
    await say(chat.id);
    chats.open(chat.id);
    await until(() => chat.messages.length === 4, "it is back");
    await until(() => kept.getItem(`convstore:${url}/sessions:s:${chat.id}`)?.includes("msg-4"), "it is kept", 3);
  },

  async "redact a reply"() {
    const chats = tab();
    const chat = await talk(chats);
    await same(chat);
    const reply = chat.messages[1].id;
    assert.equal((await chat.redact(reply)).error, null);
    await same(chat);
    assert.equal(chat.messages[1].status, "redacted");
  },

  async "the reply is there when the send has ended"() {
    const chats = tab();
    for (let number = 0; number < 30; number += 1) {
      const chat = chats.create();
      await chat.send(count());
      assert.equal(chat.messages.length, 2, `${number}`);
    }
  },

  async "two tabs, and another device, ask for a reply anew at once"() {
    const [one, two] = await twoTabs();
    const mine = await talk(one, count(40, 0.02));
    const chats = [mine, two.open(mine.id), tab(storage(), { host: elsewhere }).open(mine.id)];
    for (const chat of chats) await same(chat);
    const [, reply] = mine.messages;
    const most = chats.map(() => 0);
    const note = (chat, index) => () => { most[index] = Math.max(most[index], chat.messages.length); };
    for (const [index, chat] of chats.entries()) chat.addEventListener("change", note(chat, index));
    const found = await Promise.all(chats.map((chat) => chat.regenerate(reply.id)));
    assert.deepEqual(found.map(({ error }) => error), [null, null, null]);
    await until(() => [...open].every((each) => each.waiting === 0), "nothing waits");
    for (const each of open) assert.deepEqual(each.failed, []);
    for (const chat of chats) await same(chat);
    assert.equal(mine.messages.length, 2);
    assert.notEqual(mine.messages[1].id, reply.id);
    assert.deepEqual(most.slice(0, 2), [2, 2], "no tab shows the question twice");
  },

  async "an edit in another tab, of what is asked anew, is kept to be sent again"() {
    const [one, two] = await twoTabs();
    const mine = await talk(one, count(20, 0.02));
    const theirs = two.open(mine.id);
    await same(theirs);
    const [asked, reply] = mine.messages;
    const [, { error }] = await Promise.all([mine.regenerate(reply.id), theirs.send(count(2), { replaces: asked.id })]);
    assert.equal(error?.type, "nothing-to-replace");
    assert.deepEqual(two.failed.map(({ content }) => content), [count(2)]);
  },

  async "what others add is read alone"() {
    const chats = tab();
    const chat = await talk(chats, count(1));
    for (let number = 0; number < 40; number += 1) await say(chat.id);
    await same(chat);
    const read = [];
    broken.fault = (input, options) => {
      const last = /last=(\d+)/.exec(input)?.[1];
      if (last) read.push(Number(last));
      return realFetch(input, options);
    };
    await chat.older();
    assert.equal(chat.messages.length, 82);
    for (let number = 0; number < 3; number += 1) {
      await say(chat.id);
      await same(chat);
    }
    await chat.send(count(2));
    await say(chat.id);
    await same(chat);
    assert.equal(chat.messages.length, 92);
    assert.ok(read.length > 2 && Math.max(...read) <= 20, `${read}`);
    const first = chat.messages[0].id;
    await ask(`/sessions/${chat.id}/messages/${first}`, { method: "PATCH", headers: { "Content-Type": "application/json" }, body: '{"content": "edited"}' });
    await until(() => chat.messages[0].content === "edited", "what others change is read again");
    await same(chat);
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ content: count(1), replaces: chat.messages[70].id });
    await ask(`/sessions/${chat.id}/messages`, { method: "POST", headers, body });
    await until(() => chat.messages.length === 72, "what gave way is gone");
    await same(chat);
    for (let number = 0; number < 15; number += 1) say(chat.id); // more than is read, at once
    await until(async () => (await stored(chat.id)).length === 102, "all are there").catch(() => {});
    await same(chat);
  },

  async "a storm of tabs and devices"() {
    const browsers = [storage(), storage()];
    const places = [[url, 0], [url, 0], [url, 0], [elsewhere, 1]];
    const enter = (place) => tab(browsers[places[place][1]], { host: places[place][0], undoFor: 200 });
    const tabs = places.map((_, place) => enter(place));
    const ids = [];
    for (const chat of [tabs[0].create(), tabs[0].create()]) {
      await chat.send(count(1));
      ids.push(chat.id);
    }
    const wrong = [];
    const watched = (chat) => {
      noteWrong(chat, wrong);
      chat.addEventListener("change", () => {
        if (new Set(chat.messages.map(({ id }) => id)).size < chat.messages.length) wrong.push("twice");
      });
      return chat;
    };
    const open = tabs.map((chats) => ids.map((id) => watched(chats.open(id))));
    const sent = [[count(1)], [count(1)]];
    broken.fault = faulty;
    for (let step = 0; step < 40; step += 1) {
      const place = Math.floor(chance() * 4), number = Math.floor(chance() * 2), drawn = chance();
      const chats = tabs[place], chat = open[place][number];
      if (drawn < 0.5) {
        sent[number].push(count(3 + (step % 7), 0.01 + step / 1e6));
        chat.send(sent[number].at(-1));
      } else if (drawn < 0.6) chat.redact(chat.messages.find(({ role, status }) => role === "assistant" && !status)?.id ?? "none");
      else if (drawn < 0.7) chats.rename(ids[number], `title ${step}`);
      else if (drawn < 0.8) {
        const other = chats.create();
        other.send(count(2));
        chats.remove(other.id);
        await chats.undo(other.id);
      } else if (drawn < 0.92) {
        close(chats);
        tabs[place] = enter(place);
        open[place] = ids.map((id) => watched(tabs[place].open(id)));
      } else chat.stop();
      await pause(chance() * 120);
    }
    broken.fault = null;
    await until(() => tabs.every(({ waiting }) => waiting === 0), "all is sent", 60);
    for (const chats of tabs) for (const { key } of chats.failed) await chats.discard(key);
    for (const chats of open) for (const chat of chats) await same(chat);
    for (const [number, texts] of sent.entries()) {
      const there = (await stored(ids[number])).filter(({ role }) => role === "user").map(({ content }) => content);
      assert.deepEqual(there.toSorted(), texts.toSorted(), "each message once");
    }
    assert.deepEqual(wrong.slice(0, 1), [], `${wrong.length} wrong texts on the way`);
    const shown = (list) => list.map(({ session_id, title }) => `${session_id} ${title}`).sort();
    for (const chats of tabs) await until(async () => `${shown(chats.list)}` === `${shown(await sessions())}`, "the list");
  },

  async "faults of the network"() {
    broken.fault = faulty;
    let kept = storage();
    let chats = tab(kept);
    let chat = chats.create();
    const sent = [];
    for (let number = 0; number < 4; number += 1) {
      sent.push(count(1 + number, 0.01));
      const asked = chat.send(sent.at(-1));
      if (chance() < 0.4) await asked;
      if (chance() < 0.3) {
        const id = chat.id;
        await pause(chance() * 200);
        await until(() => chat.id === id || !chat.id.startsWith("local"), "");
        const now = chat.id;
        close(chats);
        chats = tab(kept);
        await chats.ready;
        chat = chats.open(now.startsWith("local") ? now : now);
      }
    }
    broken.fault = null;
    await until(() => chats.waiting === 0, "all is sent", 60);
    assert.deepEqual(chats.failed, []);
    const [only, ...others] = await sessions();
    assert.deepEqual(others, []);
    const there = await stored(only.session_id);
    assert.deepEqual(there.filter(({ role }) => role === "user").map(({ content }) => content), sent, "each once, in order");
    assert.deepEqual(there.filter(({ role }) => role === "assistant").map(({ content }) => content), [1, 2, 3, 4].map(told));
    await same(chats.open(only.session_id));
  },
};

try {
  await scenarios[name]();
} finally {
  broken.isAway = false;
  for (const chats of open) chats.close();
}
process.exit(0);
