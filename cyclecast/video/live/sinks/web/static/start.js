"use strict";
/* The start screen of `cyclecast ui`: where the video comes from, and where it goes to. */

const PATTERN = "pattern://1280x720@30";

let wasStartShown = false;         // this page has offered it once
let seenSourceFailure = null;      // the last failure of a source that this page has shown
let startFailure = "";             // of the last request from here: the screen covers other messages

function renderStart() {
  const start = state.start;
  $("open-start").hidden = $("key-of-start").hidden = !start;
  if (!start) return;
  $("virtual-on").checked = start.virtual;
  $("record-on").checked = state.recording !== null;
  setText("source-status", start.opening ? `Opening ${start.opening} …` : start.has_source ? `Now: ${state.source}` : "Choose where the video comes from.");
  if (start.failure && start.failure !== seenSourceFailure) showToast(start.failure, FAILURE_TIMEOUT);
  seenSourceFailure = start.failure;
  const failure = startFailure || start.failure || "";
  $("start-failure").hidden = !failure;
  setText("start-failure", failure);
  if (!start.has_source && !wasStartShown) openStart();
  wasStartShown = true;
}

function startOverlay() {          // title and detail while there is no source; null otherwise
  const start = state.start;
  if (!start || start.has_source) return null;
  if (start.opening) return ["Opening the source", start.opening];
  return ["No source", start.failure || "“Source” below offers cameras, files and a demo."];
}

function openStart() {
  if ($("start").open) return;
  startFailure = "";
  $("start").showModal();
  listCameras();
}

async function listCameras() {
  $("refresh-cameras").disabled = true;
  try {
    const {cameras} = await request("api/cameras");
    $("cameras").replaceChildren(...cameras.map(camera => {
      const button = document.createElement("button");
      button.className = "tool";
      button.textContent = camera.name;
      button.disabled = camera.failure !== null;
      button.dataset.about = camera.failure ? `${camera.source}: ${camera.failure}` : camera.source;
      button.onclick = () => selectSource(camera.source);
      return button;
    }));
    $("no-camera").hidden = cameras.length > 0;
    renderTitles();
  } catch (error) { startFailure = errorText(error); renderStart(); }
  finally { $("refresh-cameras").disabled = false; }
}

async function sendFromStart(path, body) {
  startFailure = "";
  try {
    await request(path, body);
    render(await fetchState());
    return true;
  } catch (error) {
    startFailure = errorText(error);
    renderStart();
    return false;
  }
}

async function selectSource(source) {
  seenSourceFailure = null;
  if (await sendFromStart("api/source", {source})) $("start").close();
}

async function switchOutput(box, path, body) {
  box.disabled = true;
  await sendFromStart(path, body);  // then the box shows what the server reports
  box.disabled = false;
}

async function quit() {
  try { await request("api/quit", {}); $("start").close(); } catch (error) { startFailure = errorText(error); renderStart(); }
}

function thumbnail(model) {        // null if there is none
  if (!state.start || !state.start.samples.includes(model)) return null;
  const image = document.createElement("img");
  image.src = `thumbnail.jpg?model=${encodeURIComponent(model)}`;
  image.alt = "";
  image.width = 96;
  image.height = 54;
  return image;
}

$("open-start").onclick = openStart;
$("refresh-cameras").onclick = listCameras;
$("use-browser").onclick = () => selectSource("browser");
$("use-pattern").onclick = () => selectSource(PATTERN);
$("quit").onclick = quit;
$("virtual-on").onchange = ({target}) => switchOutput(target, "api/output", {output: "virtual", on: target.checked});
$("record-on").onchange = ({target}) => switchOutput(target, "api/record", {on: target.checked});
$("path-form").onsubmit = event => {
  event.preventDefault();
  const path = $("path").value.trim();
  if (path) selectSource(path);
};
