/* What the user chose, in the address too: a link opens the page the same way. */

import {HEIGHTS} from "./geometry.js";

const PATHS = ["auto", "webgpu", "canvas", "wasm"];

/* size: a number, the shorter side; [width, height]; null: automatic */
export const settings = {model: null, size: null, path: "auto"};

/* Reads ?model=…&size=…&path=…; returns sentences about what is wrong in it. names: of all models. */
export function readAddress(names) {
  const query = new URLSearchParams(location.search), problems = [];
  const model = query.get("model") ?? names[0], size = query.get("size"), path = query.get("path") ?? "auto";
  if (!names.includes(model)) problems.push(`There is no style ${model}. Type ?model= and one of ${names.join(", ")}`);
  if (!PATHS.includes(path)) problems.push(`There is no path ${path}. Type ?path= and one of ${PATHS.join(", ")}`);
  settings.model = names.includes(model) ? model : names[0];
  settings.path = PATHS.includes(path) ? path : "auto";
  settings.size = size === null ? null : parseSize(size);
  if (size !== null && settings.size === null) problems.push(`${size} is not a size. Type ?size=360 or ?size=640x360`);
  return problems;
}

/* Returns a number, [width, height], or null for a text that is not a size. */
export function parseSize(text) {
  const [, width, height] = /^(\d+)(?:x(\d+))?$/.exec(text)?.map(Number) ?? [];
  const sides = height ? [width, height] : [width];
  if (!sides.every(side => side >= 16 && side <= 4096)) return null;
  return height ? sides : width;
}

export function writeAddress() {
  const query = new URLSearchParams({model: settings.model});
  if (settings.size !== null) query.set("size", [].concat(settings.size).join("x"));
  if (settings.path !== "auto") query.set("path", settings.path);
  history.replaceState(null, "", `?${query}`);
}

export function automaticSize(path) { return path === "wasm" ? HEIGHTS[0] : HEIGHTS[1]; }
