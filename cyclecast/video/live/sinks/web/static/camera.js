"use strict";
/* This browser's camera as the source of the run. */

let cameraConnection = null, cameraStream = null, facingMode = "user", hasSeveralCameras = false;

function canUseCamera() { return Boolean(window.isSecureContext && navigator.mediaDevices); }

function insecureText() {
  return "Browsers allow the camera over https or on this machine only. " +
    "Start cyclecast with --sink 'web://HOST:PORT?cert=FILE&key=FILE'.";
}

function renderCamera() {
  $("camera").hidden = !state.accepts_camera;
  if (!state.accepts_camera) return;
  if (cameraConnection && !state.sending && cameraConnection.connectionState === "connected") {
    if (++cameraConnection.missedPolls > 2) {
      stopCamera();
      showToast("Another browser's camera is the source now");
    }
  } else if (cameraConnection) cameraConnection.missedPolls = 0;
  $("camera").lastElementChild.textContent = cameraConnection ? "Stop this camera" : "Use this camera";
  $("camera").classList.toggle("main", !cameraConnection);
  $("flip").hidden = !(cameraConnection && hasSeveralCameras);
}

async function startCamera() {
  if (!canUseCamera()) return showToast(insecureText(), 12000);
  $("camera").disabled = true;
  try {
    stopCamera();
    cameraStream = await navigator.mediaDevices.getUserMedia({
      audio: false, video: {width: {ideal: 1280}, height: {ideal: 720}, frameRate: {ideal: 30}, facingMode},
    });
    const devices = await navigator.mediaDevices.enumerateDevices();
    hasSeveralCameras = devices.filter(device => device.kind === "videoinput").length > 1;
    await sendCamera(cameraStream.getVideoTracks()[0]);
    if (state) render(state);
  } catch (error) {
    stopCamera();
    showToast(error.name === "NotAllowedError" ? "The browser does not allow this page to use the camera"
      : error.name === "NotFoundError" ? "This device has no camera" : errorText(error));
  } finally {
    $("camera").disabled = false;
  }
}

async function sendCamera(track) {
  track.contentHint = "motion";
  const peer = cameraConnection = new RTCPeerConnection(await peerConfiguration());
  peer.missedPolls = 0;
  peer.addTransceiver(track, {direction: "sendonly", streams: [cameraStream], sendEncodings: [{maxBitrate: 6e6}]});
  peer.onconnectionstatechange = () => {
    if (peer !== cameraConnection || !["failed", "closed"].includes(peer.connectionState)) return;
    stopCamera();
    showToast("The camera's connection was lost");
  };
  track.onended = () => { if (peer === cameraConnection) { stopCamera(); showToast("The camera has stopped"); } };
  await peer.setRemoteDescription(await request("camera", {...await createOffer(peer), viewer: viewerId}));
}

function stopCamera() {
  if (cameraStream) for (const track of cameraStream.getTracks()) { track.onended = null; track.stop(); }
  if (cameraConnection) { cameraConnection.onconnectionstatechange = null; cameraConnection.close(); }
  cameraStream = cameraConnection = null;
  if (state) renderCamera();
}

$("camera").onclick = () => cameraConnection ? stopCamera() : startCamera();
$("flip").onclick = () => { facingMode = facingMode === "user" ? "environment" : "user"; startCamera(); };
