"use strict";
/* The page for OBS's Browser Source: the video and nothing else. It connects again by itself, for as long as it is open. */

const POLL_INTERVAL = 1000;        // ms

let state = null;                  // the last answer of /api/state
let failedPolls = 0, unwatchedPolls = 0;

function isServerLost() { return failedPolls > 1; }
function viewSettings() { return {follows_run: true}; }
function renderStatus() {}         // this page shows neither status nor errors, so it has nothing to render but the video
function renderWakeLock() {}
function renderOverlay() {}
function hideOverlay() {}
function stopCamera() {}

async function poll() {
  try {
    const wasLost = isServerLost() || state === null;
    state = await fetchState();
    failedPolls = 0;
    unwatchedPolls = state.watching ? 0 : unwatchedPolls + 1;
    if (isFull ? state.viewers < state.max_viewers : wasLost || unwatchedPolls > 2) {
      unwatchedPolls = 0;
      connect();
    }
  } catch {
    failedPolls++;
    if (isServerLost()) { webrtcFailures = 0; disconnect(); }
  }
  setTimeout(poll, POLL_INTERVAL);
}

poll();
