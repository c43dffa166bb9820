/* One model at one size, in a worker of its own. */

export class Renderer {
  /* plan: {key, model, url, width, height, path, threads}. hasToWarmUp: whether another video runs until this one is ready */
  constructor(plan, hasToWarmUp) {
    Object.assign(this, {plan, runs: 0, isReady: false, hasCpuNodes: false, isClosing: false, onrepainted: null, onlost: null});
    this.pending = new Map();      // what waits for an answer, by its number
    this.worker = new Worker("worker.js", {type: "module"});
    this.worker.onmessage = ({data}) => this.receive(data);
    this.worker.onerror = event => this.fail(new Error(event.message || "its script could not be loaded"));
    this.ready = new Promise((resolve, reject) => this.pending.set("open", {resolve, reject}));
    const {url, width, height, path, threads} = plan;
    this.worker.postMessage({type: "open", url: new URL(url, document.baseURI).href, width, height, path, threads, hasToWarmUp});
  }

  /* Returns {bitmap, ms, isZeroCopy}; the frame, a VideoFrame or an ImageBitmap, moves to the worker. */
  style(frame, look) {
    const id = ++this.runs;
    return new Promise((resolve, reject) => {
      this.pending.set(id, {resolve, reject});
      this.worker.postMessage({type: "style", id, frame, look}, [frame]);
    });
  }

  repaint(look) { this.worker.postMessage({type: "repaint", look}); }

  receive({type, id, ...answer}) {
    if (type === "ready") {
      this.isReady = true;
      this.hasCpuNodes = answer.hasCpuNodes;
      this.settle("open")?.resolve();
    } else if (type === "styled") this.settle(id)?.resolve(answer);  // nobody waits after the GPU was lost
    else if (type === "repainted") this.onrepainted ? this.onrepainted(answer.bitmap) : answer.bitmap.close();
    else if (type === "lost") {
      this.fail(new Error(answer.reason || "the GPU is gone"));
      this.onlost?.(answer.reason || "the GPU is gone");
    } else this.settle(id ?? "open")?.reject(new Error(answer.reason));
  }

  settle(id) {
    const waiting = this.pending.get(id);
    this.pending.delete(id);
    if (this.isClosing && this.pending.size === 0) this.worker.terminate();
    return waiting;
  }

  fail(error) { for (const id of [...this.pending.keys()]) this.settle(id).reject(error); }

  /* Ends the worker, after the frame that it is styling. */
  close() {
    this.isClosing = true;
    if (!this.isReady) this.fail(new Error("closed"));
    if (this.pending.size === 0) this.worker.terminate();
  }
}
