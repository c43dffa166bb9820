"use strict";
/* The state of the run, the buttons and the keys. The page shows what the server reports, never what it hopes for. */

const POLL_INTERVAL = 1000;        // ms
const FAILURE_TIMEOUT = 30000;     // ms that a failure is shown

let state = null;                  // the last answer of /api/state
let requestedModel = null;         // the style that was selected here and is not active yet
let missedPolls = 0;               // polls since then in which the run did not know of it: an answer may be older than the request
let failedPolls = 0, unwatchedPolls = 0;
let isTokenMissing = false;
let seenFailures = 0;              // how many of the run's failures this page has shown

if (location.search) history.replaceState(null, "", location.pathname);  // the token is in a cookie by now

/* ---- the state of the run ---- */

function viewSettings() { return {split: comparing ? split : null}; }

function isServerLost() { return failedPolls > 1; }

async function poll() {
  try {
    const wasLost = isServerLost();
    const answer = await fetchState();
    failedPolls = 0;
    isTokenMissing = false;
    render(answer);
    if (wasLost) connect();
    else if (transport && !document.hidden) {
      unwatchedPolls = answer.watching ? 0 : unwatchedPolls + 1;
      if (unwatchedPolls > 2) { unwatchedPolls = 0; connect(); }
    }
  } catch (error) {
    failedPolls = error.status ? 2 : failedPolls + 1;
    if (isServerLost()) showServerLost(error);
  }
  setTimeout(poll, POLL_INTERVAL);
}

function showServerLost(error) {
  isTokenMissing = error.status === 401;
  recording = undefined;           // the next run has its own
  disconnect();
  if (isTokenMissing) showOverlay("This page needs its token", "Load it again to type the token.");
  else showOverlay("cyclecast has ended", "The page reconnects when it runs again.");
  for (const id of ["fps", "latency", "skipped", "transport"]) $(id).textContent = "–";
}

function render(answer) {
  const isFirst = state === null;
  state = answer;
  if (isFirst && state.split !== null) { comparing = true; split = state.split; }
  if (isFirst) connect();
  renderStatus();
  $("web-app").hidden = !state.web_app;
  if (state.web_app) $("web-app").href = state.web_app;
  setText("source", state.outage ? `${state.source}: ${state.outage.reason}` : state.source);
  $("fps").textContent = state.fps.toFixed(1);
  $("latency").textContent = state.latency_ms ? Math.round(state.latency_ms) : "–";
  $("skipped").textContent = state.skipped;
  $("transport").textContent = transport || "–";
  if (state.size) document.documentElement.style.setProperty("--ratio", state.size[0] / state.size[1]);
  renderStyles();
  renderStrength();
  setPressed("mirror", state.mirror);
  renderRecording();
  if (isFull && state.viewers < state.max_viewers) connect();
  renderFailures();
  renderStart();
  renderTitles();
  renderCamera();
  renderOverlay();
  renderSlider();
}

function renderFailures() {        // of recordings and other sinks: whoever opens the page later has to see them, too
  if (state.failures.length < seenFailures) seenFailures = 0;  // it is another run
  for (const failure of state.failures.slice(seenFailures)) showToast(failure, FAILURE_TIMEOUT);
  seenFailures = state.failures.length;
}

function setPressed(id, on) { $(id).setAttribute("aria-pressed", String(on)); }

function showOverlay(title, detail = "") {
  $("overlay").hidden = false;
  $("overlay-title").textContent = title;
  $("overlay-detail").textContent = detail;
}

function hideOverlay() { $("overlay").hidden = true; }

function renderOverlay() {
  if (isServerLost()) return;
  if (isFull) return showOverlay(`${state.viewers} people are watching`, "There is no room for more. The video starts when one of them leaves.");
  const start = startOverlay();
  if (start) return showOverlay(...start);
  if (state.shown || state.size) return hasFrame ? hideOverlay() : showOverlay("Connecting");
  if (!state.accepts_camera) return showOverlay("Waiting for the first frame", state.source);
  if (state.sending || cameraConnection) return showOverlay("Waiting for the first frame", "Preparing the model for this camera.");
  showOverlay("Waiting for a camera", canUseCamera() ? "“Use this camera” sends the video of this device." : insecureText());
}

/* ---- styles ---- */

function renderStyles() {
  const names = JSON.stringify(state.models);
  if ($("styles").dataset.names !== names) {
    $("styles").dataset.names = names;
    $("styles").replaceChildren(...state.models.map((model, index) => {
      const button = document.createElement("button");
      button.className = "style";
      button.textContent = model.split(/[\\/]/).pop().replace(/\.(onnx|plan|engine)$/i, "");
      button.classList.toggle("long", button.textContent.length > 16);
      const sample = thumbnail(model);
      button.classList.toggle("pictured", sample !== null);
      if (sample) button.prepend(sample);
      if (button.textContent !== model) button.dataset.about = model;
      if (index < 9) button.dataset.key = index + 1;
      button.onclick = () => selectModel(model);
      return button;
    }));
  }
  if (requestedModel === state.model) requestedModel = null;
  missedPolls = requestedModel === null || requestedModel === state.requested_model ? 0 : missedPolls + 1;
  if (missedPolls > 1) {
    showToast(`Could not load ${requestedModel}; the terminal of cyclecast shows why`);
    requestedModel = null;
  }
  [...$("styles").children].forEach((button, index) => {
    const model = state.models[index];
    button.setAttribute("aria-pressed", String(model === state.model));
    button.setAttribute("aria-busy", String(model === state.requested_model && model !== state.model));
  });
}

async function selectModel(model) {
  if (!state || (model === state.model && model === state.requested_model)) return;
  if (!await send("api/style", {style: model})) return;
  requestedModel = model;
  for (let n = 0; n < 20 && requestedModel === model; n++) {  // show the switch as soon as it happens
    await fetchState().then(render, () => {});
    await new Promise(resolve => setTimeout(resolve, 150));
  }
}

function selectNextModel(step) {
  if (!state) return;
  const index = state.models.indexOf(requestedModel ?? state.requested_model);
  selectModel(state.models[(index + step + state.models.length) % state.models.length]);
}

/* ---- buttons: each request says which state is wanted, and the button shows the state that the server then reports ---- */

async function send(path, body) {
  try {
    await request(path, body);
    render(await fetchState());
    return true;
  } catch (error) {
    showToast(errorText(error));
    return false;
  }
}

async function sendSwitch(id, path, on) {
  if ($(id).disabled) return false;          // one request at a time: ignore a second click
  $(id).disabled = true;
  try { return await send(path, {on}); } finally { $(id).disabled = false; }
}

function toggleMirror() { if (state) sendSwitch("mirror", "api/mirror", !state.mirror); }

function toggleRecording() { if (state) sendSwitch("record", "api/record", state.recording === null); }

async function saveSnapshot() {
  try {
    const response = await fetch(`snapshot.png${comparing ? `?split=${split}` : ""}`);
    if (!response.ok) throw new Error((await response.json()).error);
    const name = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") || "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = name ? name[1] : "cyclecast.png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    $("flash").classList.remove("go");
    void $("flash").offsetWidth;             // restarts the animation
    $("flash").classList.add("go");
    showToast(`Saved ${link.download}`, 3000);
  } catch (error) { showToast(errorText(error)); }
}

function toggleFullScreen() {
  const stage = $("stage"), video = $("video");
  if (document.fullscreenElement) document.exitFullscreen();
  else if (stage.requestFullscreen) stage.requestFullscreen().catch(error => showToast(error.message));
  else if (video.webkitEnterFullscreen && transport === "WebRTC") video.webkitEnterFullscreen();
  else showToast("This browser does not support full screen here");
}

function toggleHelp() { $("keys").open ? $("keys").close() : $("keys").showModal(); }

$("compare").onclick = toggleCompare;
$("mirror").onclick = toggleMirror;
$("snapshot").onclick = saveSnapshot;
$("record").onclick = toggleRecording;
$("full").onclick = toggleFullScreen;
$("help").onclick = toggleHelp;

poll();
