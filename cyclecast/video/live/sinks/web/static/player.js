"use strict";
/* The video: WebRTC, or MJPEG where WebRTC does not get through. */

const FIRST_FRAME_TIMEOUT = 4000;  // ms
const MJPEG_RETRY = 1500;          // ms before another attempt
const HIDDEN_TIMEOUT = 5000;       // ms in the background, after which the page stops the video

let transport = null;              // "WebRTC", "MJPEG" or null
let connection = null, attempt = 0, webrtcFailures = 0;
let hasFrame = false, hiddenTimer = null;
let isFull = false;                // there is no room for another viewer
const pausesInBackground = document.documentElement.dataset.inBackground !== "play";

function isPaused() { return document.hidden && pausesInBackground; }

function setTransport(name) {
  transport = name;
  $("transport").textContent = name || "–";
  $("video").hidden = name === "MJPEG";
  $("image").hidden = name !== "MJPEG";
}

function disconnect() {
  attempt++;
  if (connection) { connection.onconnectionstatechange = null; connection.close(); connection = null; }
  $("video").srcObject = null;
  $("image").removeAttribute("src");
  hasFrame = isFull = false;
  setTransport(null);
  renderStatus();
  renderWakeLock();
}

function showVideo() {
  hasFrame = true;
  hideOverlay();
  renderStatus();
  renderWakeLock();
}

function waitForRoom() {           // `render` connects when somebody has left
  disconnect();
  isFull = true;
  renderStatus();
  if (state) renderOverlay();
}

function connect() {
  disconnect();
  if (isPaused()) return;
  if (webrtcFailures < 2 && window.RTCPeerConnection) connectWebRTC(attempt);
  else connectMjpeg(attempt);
}

async function connectWebRTC(thisAttempt) {
  const isCurrent = () => thisAttempt === attempt;
  const fail = reason => {
    if (!isCurrent()) return;
    webrtcFailures++;
    if (isServerLost()) return;
    if (webrtcFailures === 2) showToast(`No video over WebRTC (${reason}); switched to MJPEG`, 8000);
    connect();
  };
  setTransport("WebRTC");
  try {
    const configuration = await peerConfiguration();
    if (!isCurrent()) return;
    connection = new RTCPeerConnection(configuration);
    connection.addTransceiver("video", {direction: "recvonly"});
    connection.ontrack = event => {
      try { event.receiver.jitterBufferTarget = 0; } catch { /* some browsers do not support it */ }
      $("video").srcObject = new MediaStream([event.track]);
      $("video").play().catch(() => {});
    };
    connection.onconnectionstatechange = () => {
      if (["failed", "closed"].includes(connection.connectionState)) fail("the connection was lost");
    };
    const answer = await request("offer", {...await createOffer(connection), viewer: viewerId, ...viewSettings()});
    if (!isCurrent()) return;
    await connection.setRemoteDescription(answer);
  } catch (error) {
    if (isCurrent() && error.status === 503) return waitForRoom();
    return fail(errorText(error));
  }
  watchForFirstFrame(isCurrent, fail);
}

function watchForFirstFrame(isCurrent, fail) {
  const video = $("video");
  const onFrame = () => { if (isCurrent()) { webrtcFailures = 0; showVideo(); } };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(onFrame);
  if (!video.requestVideoFrameCallback || !pausesInBackground) video.ontimeupdate = () => { if (video.currentTime > 0) onFrame(); };
  const start = performance.now();
  let firstSent = null;            // when the run had a first frame to send
  const timer = setInterval(() => {
    if (!isCurrent() || hasFrame) return clearInterval(timer);
    if (state && state.shown && firstSent === null) firstSent = performance.now();
    const isConnected = connection.connectionState === "connected";
    const waitingSince = isConnected ? firstSent !== null && Math.max(firstSent, start) : start;
    if (waitingSince !== false && performance.now() - waitingSince > FIRST_FRAME_TIMEOUT) {
      clearInterval(timer);
      webrtcFailures = 1;          // do not try it again: this is not an accident
      fail(isConnected ? "no frame arrived" : "no network path");
    }
  }, 250);
}

async function createOffer(peer) {
  await peer.setLocalDescription(await peer.createOffer());
  if (peer.iceGatheringState !== "complete") {
    await new Promise(resolve => {
      const timer = setTimeout(resolve, 1000);
      peer.addEventListener("icegatheringstatechange", () => {
        if (peer.iceGatheringState === "complete") { clearTimeout(timer); resolve(); }
      });
    });
  }
  return {sdp: peer.localDescription.sdp, type: "offer"};
}

function connectMjpeg(thisAttempt) {
  setTransport("MJPEG");
  const image = $("image");
  image.onload = () => { if (thisAttempt === attempt && !hasFrame) showVideo(); };  // some browsers call it for each frame
  image.onerror = () => setTimeout(() => {
    if (thisAttempt !== attempt || isServerLost()) return;
    state && state.viewers >= state.max_viewers ? waitForRoom() : connect();
  }, MJPEG_RETRY);
  const query = Object.entries({viewer: viewerId, n: thisAttempt, token: urlToken, ...viewSettings()});
  image.src = `stream.mjpg?${new URLSearchParams(query.filter(([, value]) => value !== null))}`;
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (isPaused()) hiddenTimer = setTimeout(() => { if (!document.pictureInPictureElement) disconnect(); }, HIDDEN_TIMEOUT);
  else if (state && !transport && !isServerLost()) connect();
});
addEventListener("pagehide", () => { disconnect(); stopCamera(); });
addEventListener("pageshow", event => { if (event.persisted) connect(); });
