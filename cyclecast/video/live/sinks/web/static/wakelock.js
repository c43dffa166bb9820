"use strict";
/* Keeps the screen on while the video plays, where the browser allows it: over https or on this machine. */

let wakeLock = null, requestingWakeLock = false;

function isWakeLockWanted() { return hasFrame && !document.hidden; }

async function renderWakeLock() {
  if (wakeLock && !isWakeLockWanted()) wakeLock.release().catch(() => {});
  if (wakeLock || requestingWakeLock || !isWakeLockWanted() || !navigator.wakeLock) return;
  requestingWakeLock = true;
  try {
    const lock = wakeLock = await navigator.wakeLock.request("screen");
    lock.onrelease = () => {       // by the page, or by the browser, which does so in the background
      wakeLock = null;
      renderWakeLock();
    };
    if (lock.released) wakeLock = null;
    else renderWakeLock();         // it may not be wanted any more
  } catch { /* refused, for example to save power */ }
  finally { requestingWakeLock = false; }
}

document.addEventListener("visibilitychange", renderWakeLock);
