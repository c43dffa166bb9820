/* Where the frames come from: a camera, a video, an image or the demo scene. None of them leaves this browser.

A source has: name; ratio (width / height); isStill; watch(onframe); grab(), which resolves to the newest frame as a VideoFrame
(or an ImageBitmap where the browser has none), or to null; setPaused(isPaused); close(). */

import {drawScene} from "./demo-scene.js";

const CAMERA = {width: {ideal: 1280}, height: {ideal: 720}, frameRate: {ideal: 30}};
const DEMO = {width: 960, height: 540};

async function frameOf(element) {
  return "VideoFrame" in window ? new VideoFrame(element, {timestamp: 1000 * performance.now()}) : createImageBitmap(element);
}

/* deviceId: of one camera; "": the browser's choice. Rejects with a sentence for the user. */
export async function openCamera(deviceId = "") {
  if (!navigator.mediaDevices) throw new Error("Browsers allow the camera over https or on this machine only");
  const camera = deviceId ? {deviceId: {exact: deviceId}} : {facingMode: "user"};
  const stream = await navigator.mediaDevices.getUserMedia({audio: false, video: {...CAMERA, ...camera}}).catch(error => {
    throw new Error(error.name === "NotAllowedError" ? "The browser does not allow this page to use the camera"
      : error.name === "NotFoundError" ? "This device has no camera" : error.message);
  });
  const [track] = stream.getVideoTracks(), close = () => track.stop();
  const source = await openVideo(video => { video.srcObject = stream; }, track.label || "camera", close);
  return Object.assign(source, {track, deviceId: track.getSettings().deviceId ?? ""});
}

/* Returns [{id, name}] of the cameras; names are empty until the user has allowed one. */
export async function listCameras() {
  const devices = await navigator.mediaDevices?.enumerateDevices().catch(() => []) ?? [];
  return devices.filter(device => device.kind === "videoinput").map((device, index) => (
    {id: device.deviceId, name: device.label || `Camera ${index + 1}`}));
}

export async function openFile(file) {
  if (file.type.startsWith("image/")) {
    const bitmap = await createImageBitmap(file).catch(() => {
      throw new Error(`${file.name} is not an image that this browser can read`);
    });
    return {
      name: file.name, ratio: bitmap.width / bitmap.height, isStill: true,
      watch: onframe => onframe(), grab: () => frameOf(bitmap), close: () => bitmap.close(),
    };
  }
  const url = URL.createObjectURL(file), close = () => URL.revokeObjectURL(url);
  return openVideo(video => { video.src = url; }, file.name, close);
}

async function openVideo(attach, name, release) {
  const video = Object.assign(document.createElement("video"), {muted: true, loop: true, playsInline: true});
  const close = () => {
    video.onerror = video.onloadeddata = null;
    video.pause();
    video.srcObject = null;
    video.removeAttribute("src");
    video.load();
    release();
  };
  try {
    await new Promise((resolve, reject) => {
      video.onloadeddata = resolve;
      video.onerror = () => reject(new Error(`${name} is not a video that this browser can play`));
      attach(video);
    });
    await video.play();
  } catch (error) {
    close();
    throw error;
  }
  let request = null;
  const follow = onframe => {
    const next = () => {
      onframe();
      request = video.requestVideoFrameCallback ? video.requestVideoFrameCallback(next) : requestAnimationFrame(next);
    };
    next();
  };
  return {
    name, ratio: video.videoWidth / video.videoHeight, isStill: false, watch: follow,
    grab: async () => video.readyState >= 2 ? frameOf(video) : null,
    setPaused: isPaused => { if (isPaused) video.pause(); else video.play().catch(() => {}); },
    close: () => {
      if (video.cancelVideoFrameCallback) video.cancelVideoFrameCallback(request);
      else cancelAnimationFrame(request);
      close();
    },
  };
}

/* The demo scene; each frame is drawn when it is needed. */
export function openDemo() {
  const canvas = Object.assign(document.createElement("canvas"), DEMO), context = canvas.getContext("2d", {alpha: false});
  let request = null, elapsed = 0, since = performance.now(), isPaused = false;
  return {
    name: "demo scene", ratio: DEMO.width / DEMO.height, isStill: false,
    watch: onframe => {
      const next = () => { onframe(); request = requestAnimationFrame(next); };
      next();
    },
    grab: () => {
      drawScene(context, (elapsed + (isPaused ? 0 : performance.now() - since)) / 1000);
      return frameOf(canvas);
    },
    setPaused: pause => {
      if (pause && !isPaused) elapsed += performance.now() - since;
      if (!pause) since = performance.now();
      isPaused = pause;
    },
    close: () => cancelAnimationFrame(request),
  };
}
