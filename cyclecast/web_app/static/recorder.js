/* Records what the page shows, without sound, into a file of this browser. */

import {fileName, saveFile} from "./dom.js";

const TYPES = ["video/mp4;codecs=avc1.640028", "video/mp4", "video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];
const BITS_PER_PIXEL = 6;          // a second: 5.5 Mbit/s at 1280x720

export class Recorder {
  constructor(onchange) { Object.assign(this, {onchange, recording: null}); }

  get isOn() { return this.recording !== null; }

  /* Starts with the canvas's size, which the recording keeps. model: its name, for the file's. */
  start(canvas, model) {
    const type = globalThis.MediaRecorder && TYPES.find(type => MediaRecorder.isTypeSupported(type));
    if (!type) throw new Error("This browser cannot record");
    const {width, height} = canvas, copy = Object.assign(document.createElement("canvas"), {width, height});
    const context = copy.getContext("2d", {alpha: false}), stream = copy.captureStream();
    const videoBitsPerSecond = Math.max(1e6, BITS_PER_PIXEL * width * height);
    const recorder = new MediaRecorder(stream, {mimeType: type, videoBitsPerSecond});
    const parts = [];
    recorder.ondataavailable = event => { if (event.data.size) parts.push(event.data); };
    recorder.onerror = event => this.finish(event.error);
    recorder.onstop = () => {
      for (const track of stream.getTracks()) track.stop();
      const [container] = type.split(";"), suffix = container.split("/")[1];
      if (parts.length) saveFile(new Blob(parts, {type: container}), fileName(model, suffix));
    };
    this.recording = {recorder, context, width, height};
    this.add(canvas);
    recorder.start(1000);
    this.onchange();
  }

  add(canvas) {                    // a frame; one of another size is fitted in
    if (!this.recording) return;
    const {context, width, height} = this.recording, scale = Math.min(width / canvas.width, height / canvas.height);
    const [w, h] = [canvas.width * scale, canvas.height * scale];
    if (w !== width || h !== height) context.clearRect(0, 0, width, height);
    context.drawImage(canvas, (width - w) / 2, (height - h) / 2, w, h);
  }

  stop() { this.finish(null); }

  finish(error) {
    if (!this.recording) return;
    const {recorder} = this.recording;
    this.recording = null;
    if (recorder.state !== "inactive") recorder.stop();
    this.onchange(error);
  }
}
