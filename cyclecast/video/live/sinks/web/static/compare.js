"use strict";
/* The slider between the source and the styled video. Every viewer has its own. */

const KEY_STEP = 0.02;             // of the width, for one arrow key
const HANDLE_KEYS = {              // where each key moves the focused slider
  ArrowLeft: () => split - KEY_STEP, ArrowRight: () => split + KEY_STEP, Home: () => 0,
  ArrowDown: () => split - KEY_STEP, ArrowUp: () => split + KEY_STEP, End: () => 1,
};

let split = 0.5, comparing = false;
let sendingSplit = false, splitChanged = false;
let draggingPointer = null;

function renderSlider() {
  $("frame").classList.toggle("comparing", comparing);
  for (const id of ["handle", "before", "after"]) $(id).hidden = !comparing;
  $("frame").style.setProperty("--split", `${100 * split}%`);
  $("before").classList.toggle("covered", split < 0.12);
  $("after").classList.toggle("covered", split > 0.88);
  $("handle").setAttribute("aria-valuenow", Math.round(100 * split));
  $("handle").setAttribute("aria-valuetext", `${Math.round(100 * split)} % source`);
  setPressed("compare", comparing);
}

async function sendSplit() {       // one request at a time, and always the last value
  if (sendingSplit) { splitChanged = true; return; }
  sendingSplit = true;
  do {
    splitChanged = false;
    try {
      await request("api/split", {viewer: viewerId, split: comparing ? split : null});
    } catch (error) { if (error.status !== 404) break; }
    await new Promise(resolve => setTimeout(resolve, 30));
  } while (splitChanged);
  sendingSplit = false;
}

function moveSlider(to) {
  split = Math.min(1, Math.max(0, to));
  comparing = true;
  renderSlider();
  sendSplit();
}

function toggleCompare() {
  comparing = !comparing;
  if (comparing && (split < 0.05 || split > 0.95)) split = 0.5;
  renderSlider();
  sendSplit();
}

$("handle").addEventListener("keydown", event => {
  const target = HANDLE_KEYS[event.key];
  if (!target || hasModifier(event)) return;
  event.preventDefault();
  event.stopPropagation();         // it is no shortcut
  moveSlider(target());
});

function pointerShare(event) {
  const box = $("frame").getBoundingClientRect();
  return (event.clientX - box.left) / box.width;
}

$("frame").addEventListener("pointerdown", event => {
  if (!comparing || event.button !== 0) return;
  draggingPointer = event.pointerId;
  $("frame").setPointerCapture(draggingPointer);
  moveSlider(pointerShare(event));
});
$("frame").addEventListener("pointermove", event => { if (event.pointerId === draggingPointer) moveSlider(pointerShare(event)); });
for (const type of ["pointerup", "pointercancel"]) {
  $("frame").addEventListener(type, event => { if (event.pointerId === draggingPointer) draggingPointer = null; });
}
