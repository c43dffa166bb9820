/* What this browser offers: WebGPU, and on which adapter; threads. */

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|warp|basic render/i;
const MOST_THREADS = 4;            // more of them slow each other down on most laptops

export const isIos = /iPhone|iPad|iPod/.test(navigator.userAgent)
  || (/Mac/.test(navigator.platform) && navigator.maxTouchPoints > 1);
export const threads = crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;

/* Returns null without WebGPU, otherwise {name, isSoftware, hasFp16}. */
export async function findAdapter() {
  const adapter = await navigator.gpu?.requestAdapter({powerPreference: "high-performance"}).catch(() => null);
  if (!adapter) return null;
  const info = adapter.info ?? {}, name = info.description || [info.vendor, info.architecture].filter(Boolean).join(" ") || "GPU";
  const words = [name, info.vendor, info.architecture, info.device].join(" ");
  const isSoftware = Boolean(info.isFallbackAdapter ?? adapter.isFallbackAdapter) || SOFTWARE.test(words);
  return {name, isSoftware, hasFp16: adapter.features.has("shader-f16")};
}

/* path: auto, webgpu, canvas or wasm. Returns the one that runs, and a sentence where that needs a reason. */
export function choosePath(path, adapter) {
  const name = adapter?.name;
  if (path === "wasm") return {path, notice: ""};
  if (!adapter) {
    if (path !== "auto") throw new Error("this browser has no WebGPU here");
    return {path: "wasm", notice: "This browser has no WebGPU here, so the CPU does the work."};
  }
  if (path === "auto" && adapter.isSoftware) {
    return {path: "wasm", notice: `This browser's WebGPU is a program on the CPU (${name}), so WASM runs, which is faster.`};
  }
  const notice = !adapter.isSoftware ? ""
    : `Warning: ${name} is a program on the CPU that stands in for a GPU. Expect several seconds per frame.`;
  return {path: path === "auto" ? "webgpu" : path, notice};
}
