/* Keeps the screen on while video plays, where the browser allows it. */

let lock = null, isRequesting = false, isWanted = false;

export async function keepScreenOn(on) {
  isWanted = on;
  const isDue = () => isWanted && !document.hidden;
  if (lock && !isDue()) lock.release().catch(() => {});
  if (lock || isRequesting || !isDue() || !navigator.wakeLock) return;
  isRequesting = true;
  try {
    lock = await navigator.wakeLock.request("screen");
    lock.onrelease = () => { lock = null; };
  } catch { /* refused, for example to save power */ } finally { isRequesting = false; }
}

document.addEventListener("visibilitychange", () => keepScreenOn(isWanted));
