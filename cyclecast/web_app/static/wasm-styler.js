/* Styles frames on the CPU: canvas pixels, model, canvas pixels. */

import {coveredPart, frameSize, halfLine} from "./geometry.js";
import {frameTensor, runModel} from "./session.js";

export class WasmStyler {
  /* size: {width, height} */
  constructor(session, size) {
    const {width, height} = size;
    Object.assign(this, {session, size, styled: null});
    this.scaler = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true, alpha: false});
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d", {alpha: false});
    this.pixels = new ImageData(width, height);
    this.source = new Uint8Array(3 * width * height);  // BGR
    this.input = frameTensor(this.source, size);
  }

  /* Styles a frame and closes it. Returns whether it was read without a copy. */
  async style(frame, isMirrored) {
    try { this.pack(frame, isMirrored); } finally { frame.close(); }
    const output = await runModel(this.session, this.input);
    this.styled = output.data;
    output.dispose();
    return false;
  }

  pack(frame, isMirrored) {
    const source = frameSize(frame), part = coveredPart(source, this.size), {width, height} = this.size;
    this.scaler.setTransform(isMirrored ? -1 : 1, 0, 0, 1, isMirrored ? width : 0, 0);
    this.scaler.drawImage(
      frame, part.x * source.width, part.y * source.height, part.width * source.width, part.height * source.height,
      0, 0, width, height,
    );
    const {data} = this.scaler.getImageData(0, 0, width, height);
    for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
      this.source[to] = data[from + 2];
      this.source[to + 1] = data[from + 1];
      this.source[to + 2] = data[from];
    }
  }

  /* Returns the newest frame as an ImageBitmap. */
  paint({split, strength}) {
    const {width, height} = this.size, {source, styled} = this, {data} = this.pixels;
    const edge = split === null ? 0 : split * width, half = halfLine(width);
    for (let pixel = 0; pixel < width * height; pixel++) {
      const x = pixel % width + 0.5, from = 3 * pixel, to = 4 * pixel, share = x < edge ? 0 : strength;
      const isLine = split !== null && Math.abs(x - edge) < half;
      for (let channel = 0; channel < 3; channel++) {
        const before = source[from + 2 - channel], after = styled[from + 2 - channel];
        data[to + channel] = isLine ? 255 : before + share * (after - before);
      }
      data[to + 3] = 255;
    }
    this.context.putImageData(this.pixels, 0, 0);
    return this.canvas.transferToImageBitmap();
  }
}
