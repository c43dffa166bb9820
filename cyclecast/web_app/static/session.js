/* ONNX Runtime in a worker: one session for one model at one size. */

import * as ort from "./ort/ort.webgpu.bundle.min.mjs";

export function frameTensor(data, {width, height}) { return new ort.Tensor("uint8", data, [1, height, width, 3]); }

export function frameTensorOnGpu(buffer, {width, height}) {
  return ort.Tensor.fromGpuBuffer(buffer, {dataType: "uint8", dims: [1, height, width, 3]});
}

export function gpuDevice() { return ort.env.webgpu.device; }  // of ONNX Runtime, once a session is open

/* Runs the model: its one input and its one output are frames. output: the tensor to write to, if it exists already. */
export async function runModel(session, input, output = null) {
  const {inputNames: [from], outputNames: [to]} = session;
  return (await (output ? session.run({[from]: input}, {[to]: output}) : session.run({[from]: input})))[to];
}

/* provider: "webgpu" or "wasm". Returns {session, hasCpuNodes}: whether WebGPU leaves nodes to the CPU, which costs copies of each
frame. */
export async function openSession(url, {width, height, provider, threads}) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: the server answered ${response.status}`);
  const model = await response.arrayBuffer(), isOnGpu = provider === "webgpu";
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = isOnGpu ? 1 : threads;
  const options = {executionProviders: [provider], freeDimensionOverrides: {height, width}};
  if (!isOnGpu) return {session: await ort.InferenceSession.create(model, options), hasCpuNodes: false};
  const onGpuOnly = {...options, extra: {session: {disable_cpu_ep_fallback: "1"}}};
  try {
    return {session: await ort.InferenceSession.create(model, onGpuOnly), hasCpuNodes: false};
  } catch (error) {
    if (!/fallback/i.test(error.message)) throw error;
    return {session: await ort.InferenceSession.create(model, options), hasCpuNodes: true};
  }
}
