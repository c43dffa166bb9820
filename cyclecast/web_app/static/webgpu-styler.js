/* Styles frames on the GPU: texture, compute pass, model, render pass. No pixel passes through the CPU. */

import {coveredPart, frameSize, halfLine} from "./geometry.js";
import {frameTensorOnGpu, gpuDevice, runModel} from "./session.js";
import {packShader, VIEW_SHADER} from "./shaders.js";

const PIXELS_PER_GROUP = 4 * 64;

export class WebGpuStyler {
  /* size: {width, height}. canImport: whether frames of a video may be read where they are, without a copy. */
  constructor(session, size, canImport) {
    const device = this.device = gpuDevice();
    Object.assign(this, {session, size, canImport: canImport && Boolean(device.importExternalTexture), texture: null});
    this.canvas = new OffscreenCanvas(size.width, size.height);
    this.context = this.canvas.getContext("webgpu");
    this.context.configure({device, format: navigator.gpu.getPreferredCanvasFormat(), alphaMode: "opaque"});
    const bytes = Math.ceil(3 * size.width * size.height / 16) * 16;
    const {STORAGE, COPY_SRC, COPY_DST, UNIFORM} = GPUBufferUsage;
    [this.source, this.styled] = [0, 1].map(() => device.createBuffer({size: bytes, usage: STORAGE | COPY_SRC | COPY_DST}));
    [this.shape, this.view] = [0, 1].map(() => device.createBuffer({size: 32, usage: UNIFORM | COPY_DST}));
    this.input = frameTensorOnGpu(this.source, size);
    this.output = frameTensorOnGpu(this.styled, size);
    this.sampler = device.createSampler({magFilter: "linear", minFilter: "linear"});
    this.packers = new Map();      // pipelines by the type of their texture
    const module = device.createShaderModule({code: VIEW_SHADER});
    this.painter = device.createRenderPipeline({
      layout: "auto", vertex: {module}, fragment: {module, targets: [{format: navigator.gpu.getPreferredCanvasFormat()}]},
    });
    this.painted = device.createBindGroup({
      layout: this.painter.getBindGroupLayout(0),
      entries: [this.view, this.source, this.styled].map((buffer, binding) => ({binding, resource: {buffer}})),
    });
  }

  /* Styles a frame and closes it. Returns whether it was read without a copy. */
  async style(frame, isMirrored) {
    let isZeroCopy;
    try { isZeroCopy = this.pack(frame, isMirrored); } finally { frame.close(); }
    await runModel(this.session, this.input, this.output);
    await this.device.queue.onSubmittedWorkDone();  // it measures the time, and no queue builds up
    return isZeroCopy;
  }

  /* Writes the frame into the model's input. Returns whether it was read without a copy. */
  pack(frame, isMirrored) {
    const {width, height} = frameSize(frame), {x, y, ...part} = coveredPart({width, height}, this.size);
    const isZeroCopy = this.canImport && frame instanceof self.VideoFrame;
    const shares = isMirrored ? [x + part.width, y, -part.width, part.height] : [x, y, part.width, part.height];
    const isShrunk = part.width * width > this.size.width;
    const spread = isShrunk ? [0.25 * part.width / this.size.width, 0.25 * part.height / this.size.height] : [0, 0];
    const shape = new ArrayBuffer(32);
    new Float32Array(shape).set([...shares, ...spread]);
    new Uint32Array(shape).set([this.size.width, this.size.height], 6);
    this.device.queue.writeBuffer(this.shape, 0, shape);
    const texture = isZeroCopy ? this.device.importExternalTexture({source: frame}) : this.copy(frame, width, height);
    const pipeline = this.packer(isZeroCopy ? "texture_external" : "texture_2d<f32>");
    const encoder = this.device.createCommandEncoder(), pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, this.device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{buffer: this.shape}, texture, this.sampler, {buffer: this.source}].map(
        (resource, binding) => ({binding, resource})),
    }));
    pass.dispatchWorkgroups(Math.ceil(this.size.width * this.size.height / PIXELS_PER_GROUP));
    pass.end();
    this.device.queue.submit([encoder.finish()]);
    return isZeroCopy;
  }

  packer(textureType) {
    if (!this.packers.has(textureType)) {
      const module = this.device.createShaderModule({code: packShader(textureType)});
      this.packers.set(textureType, this.device.createComputePipeline({layout: "auto", compute: {module}}));
    }
    return this.packers.get(textureType);
  }

  copy(frame, width, height) {     // returns the view of a texture with the frame's pixels
    if (this.texture?.width !== width || this.texture?.height !== height) {
      this.texture?.destroy();
      const {TEXTURE_BINDING, COPY_DST, RENDER_ATTACHMENT} = GPUTextureUsage;
      this.texture = this.device.createTexture({
        size: [width, height], format: "rgba8unorm", usage: TEXTURE_BINDING | COPY_DST | RENDER_ATTACHMENT,
      });
    }
    this.device.queue.copyExternalImageToTexture({source: frame}, {texture: this.texture}, [width, height]);
    return this.texture.createView();
  }

  /* Returns the newest frame as an ImageBitmap. */
  paint({split, strength}) {
    const view = new ArrayBuffer(32), {width, height} = this.size;
    new Uint32Array(view).set([width, height]);
    new Float32Array(view).set([split === null ? -1 : split * width, halfLine(width), strength], 2);
    this.device.queue.writeBuffer(this.view, 0, view);
    const encoder = this.device.createCommandEncoder(), pass = encoder.beginRenderPass({
      colorAttachments: [{view: this.context.getCurrentTexture().createView(), loadOp: "clear", storeOp: "store"}],
    });
    pass.setPipeline(this.painter);
    pass.setBindGroup(0, this.painted);
    pass.draw(3);
    pass.end();
    this.device.queue.submit([encoder.finish()]);
    return this.canvas.transferToImageBitmap();
  }
}
