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

/** Ask the server itself. It closes connections that nobody uses. */
async function ask(path, options = {}) {
  const given = { ...options, headers: { ...headers(), ...options.headers } };
  return realFetch(url + path, given).catch(() => realFetch(url + path, given));
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
    const chat = chats.create();
    await chat.send(count());
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
    const kept = storage();
    const one = tab(kept);
    await until(() => one.isLeader, "it leads");
    const two = tab(kept);
    await two.ready;
    const chat = two.create();
    const asked = chat.send(count(80, 0.03));
    await until(() => chat.messages.at(-1)?.status === "streaming", "the reply begins");
    close(one);
    await until(() => two.isLeader, "the other one leads");
    assert.equal((await asked).value.reply.content, told(80));
    await same(chat);
  },

  async "devices follow"() {
    const one = tab(), two = tab(storage(), { host: elsewhere });
    const mine = one.create();
    await mine.send(count());
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
    const chat = chats.create();
    await chat.send(count());
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
    const chat = chats.create();
    await chat.send(count());
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
    const chat = chats.create();
    await chat.send(count());
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
    const chat = chats.create();
    await chat.send(count());
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
      await ask(`/sessions/${id}/messages`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ content: count(1) }) });
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
    const chat = chats.create();
    await chat.send(count());
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

  async "faults of the network"() {
    let state = Number(seed);
    const chance = () => {
      state = (state * 1103515245 + 12345) % 2147483648;
      return state / 2147483648;
    };
    broken.fault = async (input, options) => {
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
    };
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
