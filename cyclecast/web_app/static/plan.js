/* Which file runs how, from what the user chose and what the machine offers. */

import {processingSize} from "./geometry.js";
import {choosePath, threads} from "./machine.js";
import {automaticSize} from "./settings.js";

/* model: an entry of models.json. ratio: of the source, width / height. Returns {key, model, url, width, height, path, precision,
   threads, notice, settings}. */
export function makePlan(model, settings, ratio, adapter) {
  const {size, path: wanted} = settings, {path, notice} = choosePath(wanted, adapter);
  const precision = path !== "wasm" && adapter.hasFp16 && model.files.fp16 ? "fp16" : "fp32";
  const [width, height] = model.size ?? (Array.isArray(size) ? size : processingSize(size ?? automaticSize(path), ratio));
  const key = [model.name, precision, width, height, path].join(" ");
  const url = model.files[precision].path;
  return {key, model: model.name, url, width, height, path, precision, threads, notice, settings: {...settings}};
}

/* Returns the path of a renderer in words. */
export function pathText({plan: {path, threads: count}, hasCpuNodes}, isZeroCopy) {
  if (hasCpuNodes) return "WebGPU, partly on the CPU";
  if (path === "wasm") return count === 1 ? "WASM, 1 thread" : `WASM, ${count} threads`;
  return isZeroCopy ? "WebGPU, zero copy" : "WebGPU, canvas pixels";
}
