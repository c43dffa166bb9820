"use strict";
/* Shortcuts of one key, which can be switched off: who dictates to the computer would press them by speaking. */

const KEYS_SETTING = "cyclecast-keys";  // in the browser's storage, which may be blocked
const SHORTCUTS = {
  n: () => selectNextModel(1), p: () => selectNextModel(-1), s: () => toggleCompare(), m: () => toggleMirror(),
  c: () => saveSnapshot(), r: () => toggleRecording(), f: () => toggleFullScreen(), h: () => toggleHelp(),
  o: () => { if (state && state.start) openStart(); },
  ArrowLeft: () => moveSlider(split - KEY_STEP), ArrowRight: () => moveSlider(split + KEY_STEP),
  "[": () => stepStrength(-STRENGTH_STEP), "]": () => stepStrength(STRENGTH_STEP),
  "-": () => stepStrength(-STRENGTH_STEP), "+": () => stepStrength(STRENGTH_STEP), "=": () => stepStrength(STRENGTH_STEP),
  ",": () => moveSlider(split - KEY_STEP), ".": () => moveSlider(split + KEY_STEP),
};

let areKeysOn = true;

function setKeys(on) {
  areKeysOn = $("keys-on").checked = on;
  $("keys").classList.toggle("off", !on);
  renderTitles();
}

function renderTitles() {          // what an element is about, and its shortcut
  for (const element of document.querySelectorAll("[data-about], [data-key]")) {
    const {about, key} = element.dataset;
    element.title = [about, key && areKeysOn && `Shortcut: ${key}`].filter(Boolean).join(". ");
  }
}

function hasModifier(event) { return event.ctrlKey || event.metaKey || event.altKey; }

function isTyping(event) {
  const field = "textarea, select, input:not([type=range], [type=checkbox])";
  return event.isComposing || event.target.isContentEditable || event.target.matches?.(field);
}

addEventListener("keydown", event => {
  if (!areKeysOn || hasModifier(event) || isTyping(event)) return;
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if ($("start").open || ($("keys").open && name !== "h")) return;
  if (name >= "1" && name <= "9" && state && state.models[name - 1]) return selectModel(state.models[name - 1]);
  if (event.target === $("strength") && name.startsWith("Arrow")) return;  // they move that slider
  const action = SHORTCUTS[name];
  if (action && !(event.repeat && !/^(Arrow|[,.[\]+=-]$)/.test(name))) { event.preventDefault(); action(); }
});

$("keys-on").onchange = event => {
  setKeys(event.target.checked);
  try { localStorage.setItem(KEYS_SETTING, areKeysOn ? "on" : "off"); } catch { /* it holds until the page is closed */ }
};

try { setKeys(localStorage.getItem(KEYS_SETTING) !== "off"); } catch { setKeys(true); }
