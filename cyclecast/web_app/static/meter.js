/* Frames per second and milliseconds a frame, measured. */

const WINDOW = 2000;               // ms

export class Meter {
  constructor() { this.frames = []; }

  add(ms) {
    const now = performance.now();
    this.frames.push({now, ms});
    while (now - this.frames[0].now > WINDOW && this.frames.length > 2) this.frames.shift();
  }

  reset() { this.frames = []; }

  get fps() {                      // null: nothing to measure
    const [first, last] = [this.frames[0], this.frames.at(-1)];
    if (this.frames.length < 2 || performance.now() - last.now > 2 * WINDOW + 2 * last.ms) return null;
    return 1000 * (this.frames.length - 1) / (last.now - first.now);
  }

  get ms() {
    const times = this.frames.map(frame => frame.ms).sort((a, b) => a - b);
    return times.length ? times[times.length >> 1] : null;
  }
}
