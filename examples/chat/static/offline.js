// The service worker: it keeps the page and its files, so that a reload without the server shows what this browser keeps.
// Conversations are not its matter. They go past it.
const CACHE = "page";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

// The page tells which files it is made of.
self.addEventListener("message", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(event.data)));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const path = new URL(request.url).pathname;
  const isFile = path.startsWith("/static/") || path.endsWith("/convstore.js");
  if (request.method !== "GET" || (request.mode !== "navigate" && !isFile)) return;
  event.respondWith(fresh(request));
});

/** The answer of the server, or without it the one that is kept. All conversations have the same page. */
async function fresh(request) {
  const cache = await caches.open(CACHE);
  const key = request.mode === "navigate" ? new URL("./", self.location) : request;
  let answer;
  try {
    answer = await fetch(request);
    if (answer.status < 500) {
      if (answer.ok && !answer.redirected) await cache.put(key, answer.clone());
      return answer;
    }
  } catch {
    // There is no server.
  }
  return (await cache.match(key)) ?? answer ?? Response.error();
}
