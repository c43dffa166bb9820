/* The slider between the source and the styled video, and the strength. */

import {$, setPressed} from "./dom.js";

const KEY_STEP = 0.02;             // of the width, for one arrow key
const STRENGTH_STEP = 0.1;         // for one key

export const look = {split: null, strength: 1, isMirrored: false};  // split: share of the width that shows the source, or null

let place = 0.5;                   // of the slider, also while it is hidden
let onlook = () => {};             // what to do when the look has changed

function clamp(share) { return Math.min(1, Math.max(0, share)); }

function change(values) {
  Object.assign(look, values);
  const isComparing = look.split !== null, percent = Math.round(100 * place), strength = `${Math.round(100 * look.strength)} %`;
  $("frame").classList.toggle("comparing", isComparing);
  for (const id of ["handle", "before", "after"]) $(id).hidden = !isComparing;
  $("frame").style.setProperty("--split", `${100 * place}%`);
  $("before").classList.toggle("covered", place < 0.12);
  $("after").classList.toggle("covered", place > 0.88);
  $("handle").setAttribute("aria-valuenow", percent);
  $("handle").setAttribute("aria-valuetext", `${percent} % source`);
  setPressed($("compare"), isComparing);
  $("strength").value = look.strength;
  $("strength").setAttribute("aria-valuetext", strength);
  $("strength-value").textContent = strength;
  onlook();
}

function moveTo(share) {
  place = clamp(share);
  change({split: place});
}

export function stepSlider(direction) { moveTo(place + direction * KEY_STEP); }

export function toggleCompare() {
  if (look.split !== null) return change({split: null});
  moveTo(place < 0.05 || place > 0.95 ? 0.5 : place);
}

export function stepStrength(direction) { setStrength(look.strength + direction * STRENGTH_STEP); }

function setStrength(share) { change({strength: Math.round(100 * clamp(share)) / 100}); }

export function startCompare(onchange) {
  onlook = onchange;
  let draggingPointer = null;
  const keys = {
    ArrowLeft: () => place - KEY_STEP, ArrowRight: () => place + KEY_STEP, Home: () => 0,
    ArrowDown: () => place - KEY_STEP, ArrowUp: () => place + KEY_STEP, End: () => 1,
  };
  $("handle").addEventListener("keydown", event => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();       // it is not a shortcut
    moveTo(keys[event.key]());
  });
  const frame = $("frame"), follow = event => {
    const box = frame.getBoundingClientRect();
    moveTo((event.clientX - box.left) / box.width);
  };
  frame.addEventListener("pointerdown", event => {
    if (look.split === null || event.button !== 0) return;
    draggingPointer = event.pointerId;
    frame.setPointerCapture(draggingPointer);
    follow(event);
  });
  frame.addEventListener("pointermove", event => { if (event.pointerId === draggingPointer) follow(event); });
  for (const type of ["pointerup", "pointercancel"]) {
    frame.addEventListener(type, event => { if (event.pointerId === draggingPointer) draggingPointer = null; });
  }
  $("strength").oninput = event => setStrength(Number(event.target.value));
  $("compare").onclick = toggleCompare;
  change({});
}
