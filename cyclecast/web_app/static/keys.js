/* Shortcuts of one key, which can be switched off: who dictates to the computer would press them by speaking. */

import {$} from "./dom.js";

const KEYS_SETTING = "cyclecast-keys";  // in the browser's storage, which may be blocked

let areKeysOn = true;

function setKeys(on) {
  areKeysOn = $("keys-on").checked = on;
  $("keys").classList.toggle("off", !on);
  renderTitles();
}

export function renderTitles() {   // what an element is about, and its shortcut
  for (const element of document.querySelectorAll("[data-about], [data-key]")) {
    const {about, key} = element.dataset;
    element.title = [about, key && areKeysOn && `Shortcut: ${key}`].filter(Boolean).join(". ").replace("..", ".");
  }
}

export function toggleHelp() { if ($("keys").open) $("keys").close(); else $("keys").showModal(); }

function isTyping(event) {
  const field = "textarea, select, input:not([type=range], [type=checkbox])";
  return event.isComposing || event.target.isContentEditable || event.target.matches?.(field);
}

/* shortcuts: functions by the name of their key. selectStyle(index) */
export function startKeys(shortcuts, selectStyle) {
  addEventListener("keydown", event => {
    if (!areKeysOn || event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if ($("keys").open && name !== "h") return;
    if (name >= "1" && name <= "9") return selectStyle(name - 1);
    if (event.target === $("strength") && name.startsWith("Arrow")) return;  // they move that slider
    const action = shortcuts[name];
    if (action && !(event.repeat && !/^(Arrow|[,.[\]+=-]$)/.test(name))) { event.preventDefault(); action(); }
  });
  $("keys-on").onchange = event => {
    setKeys(event.target.checked);
    try { localStorage.setItem(KEYS_SETTING, areKeysOn ? "on" : "off"); } catch { /* it holds until the page is closed */ }
  };
  $("help").onclick = toggleHelp;
  try { setKeys(localStorage.getItem(KEYS_SETTING) !== "off"); } catch { setKeys(true); }
}
