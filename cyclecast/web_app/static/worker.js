/* One model at one size, in its own thread: the page stays responsive, and ending the worker releases all of its memory. */

import {gpuDevice, openSession} from "./session.js";
import {WasmStyler} from "./wasm-styler.js";
import {WebGpuStyler} from "./webgpu-styler.js";

let styler = null, look = null, isStyling = false, hasFrame = false;

async function open({url, width, height, path, threads, hasToWarmUp}) {
  const size = {width, height}, provider = path === "wasm" ? "wasm" : "webgpu";
  const {session, hasCpuNodes} = await openSession(url, {...size, provider, threads});
  if (provider === "webgpu") {
    gpuDevice().lost.then(({message}) => postMessage({type: "lost", reason: message}));
    styler = new WebGpuStyler(session, size, path === "webgpu");
  } else styler = new WasmStyler(session, size);
  if (!hasToWarmUp) return {hasCpuNodes};
  const blank = new OffscreenCanvas(width, height);  // the first frame is slow: shaders are compiled, memory is allocated
  blank.getContext("2d");
  await styler.style(await createImageBitmap(blank), false);
  styler.paint({split: null, strength: 1}).close();
  return {hasCpuNodes};
}

async function style({id, frame, look: wanted}) {
  look = wanted;
  isStyling = true;
  try {
    const start = performance.now(), isZeroCopy = await styler.style(frame, look.isMirrored), bitmap = styler.paint(look);
    hasFrame = true;
    postMessage({type: "styled", id, bitmap, isZeroCopy, ms: performance.now() - start}, [bitmap]);
  } finally { isStyling = false; }
}

function repaint({look: wanted}) {  // while a frame is being styled, that frame is painted so
  look = wanted;
  if (isStyling || !hasFrame) return;
  const bitmap = styler.paint(look);
  postMessage({type: "repainted", bitmap}, [bitmap]);
}

const ACTIONS = {open: async message => postMessage({type: "ready", ...await open(message)}), style, repaint};

onmessage = async ({data}) => {
  try { await ACTIONS[data.type](data); } catch (error) {
    postMessage({type: "failed", id: data.id ?? null, reason: error?.message ?? String(error)});
  }
};
