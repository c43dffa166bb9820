/* The service worker: after the first visit the page works without a network, and with threads on any host. */

const VERSION = "__VERSION__";     // of all files; `cyclecast web-app` writes it
const ISOLATION = {                // without these headers WASM has one thread, and a static host may not send them
  "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp",
};

const root = new URL("./", location.href).href;
const cacheName = `cyclecast ${root} ${VERSION}`;

async function install() {
  const {files} = await (await fetch("files.json", {cache: "no-cache"})).json();
  const paths = ["./", "files.json", ...files.map(file => file.path)];
  await (await caches.open(cacheName)).addAll(paths.map(path => new Request(path, {cache: "no-cache"})));
  await skipWaiting();
}

async function activate() {
  for (const name of await caches.keys()) {
    if (name.startsWith(`cyclecast ${root} `) && name !== cacheName) await caches.delete(name);
  }
  await clients.claim();
}

async function answer(request) {
  const cache = await caches.open(cacheName), response = await cache.match(request, {ignoreSearch: true}) ?? await fetch(request);
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(response.body, {status: response.status, statusText: response.statusText, headers});
}

addEventListener("install", event => event.waitUntil(install()));
addEventListener("activate", event => event.waitUntil(activate()));
addEventListener("fetch", event => {
  if (event.request.method === "GET" && event.request.url.startsWith(root)) event.respondWith(answer(event.request));
});
