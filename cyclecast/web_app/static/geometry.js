/* Which part of a source becomes a frame of the model, and at which size. */

export const HEIGHTS = [144, 360, 540, 720];  // of landscape frames; the width of portrait ones
const STEP = 4;                    // pixels: all sizes are multiples

/* Returns [width, height] with the aspect ratio of the source (width / height), whose shorter side is `shorter` pixels. */
export function processingSize(shorter, ratio) {
  const longer = side => Math.max(STEP, Math.round(side / STEP) * STEP);
  return ratio >= 1 ? [longer(shorter * ratio), shorter] : [shorter, longer(shorter / ratio)];
}

/* Returns the largest part of the source with the aspect ratio of a frame: {x, y, width, height}, as shares of the source. */
export function coveredPart(source, frame) {
  const ratio = (source.width / source.height) / (frame.width / frame.height);
  const width = Math.min(1, 1 / ratio), height = Math.min(1, ratio);
  return {x: (1 - width) / 2, y: (1 - height) / 2, width, height};
}

export function frameSize(frame) {  // of a VideoFrame or an ImageBitmap
  return {width: frame.displayWidth ?? frame.width, height: frame.displayHeight ?? frame.height};
}

/* Returns half the width of the slider's line, in pixels of a frame of this width. */
export function halfLine(width) { return Math.max(0.5, width / 900); }
