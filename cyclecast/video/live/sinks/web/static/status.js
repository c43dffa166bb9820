"use strict";
/* The state of the run in words, because colors alone reach nobody who cannot tell them apart. A change is announced once. */

const LIGHTS = {live: "on", disconnected: "off", ended: "off", "token missing": "off"};  // gray for all others

let recording;                     // the file's name, as last reported; null: none, undefined: no answer of this run yet
let hasRecordingFailed = false;

function statusWord() {
  if (isServerLost()) return isTokenMissing ? "token missing" : "ended";
  if (!state) return "connecting";
  if (isFull) return "full";
  if (state.outage) return "disconnected";
  if (!state.shown && !state.size) return "waiting";
  return hasFrame ? "live" : document.hidden ? "paused" : "connecting";
}

function renderStatus() {
  setText("status", statusWord());
  $("status-light").className = `status-light ${LIGHTS[statusWord()] ?? ""}`;
}

function renderRecording() {
  const previous = recording, isOn = state.recording !== null;
  recording = state.recording;
  if (isOn || previous === undefined) hasRecordingFailed = false;
  else if (previous) hasRecordingFailed = state.failures.some(failure => failure.startsWith(`${previous}: `));
  if (isOn && previous === null) showToast(`Recording to ${recording} on cyclecast's machine`);
  if (previous && !isOn && !hasRecordingFailed) showToast(`Recorded ${previous}`);
  $("recording").hidden = !isOn && !hasRecordingFailed;
  setText("recording", isOn ? "recording" : "recording failed");
  $("record").classList.toggle("on", isOn);
  $("record").lastElementChild.textContent = isOn ? "Stop recording" : "Record";
  $("record").dataset.about = isOn ? `Recording to ${recording}` : "";
}
