/* Snapshot, recording and full screen. */

import {$, fileName, saveFile, showToast} from "./dom.js";
import {Recorder} from "./recorder.js";

/* player: shows the frames. modelName(): of the active model, for the names of files */
export function startOutputs(player, modelName) {
  const recorder = new Recorder(error => {
    $("recording").textContent = recorder.isOn ? "recording" : "";
    $("record").classList.toggle("on", recorder.isOn);
    $("record").lastElementChild.textContent = recorder.isOn ? "Stop recording" : "Record";
    if (error) showToast(`The recording failed: ${error.message}`, 8000);
  });
  player.onpainted = canvas => {
    canvas.dataset.painted = player.painted;
    recorder.add(canvas);
  };

  async function saveSnapshot() {
    if (!player.shown) return;
    const {width, height} = player.canvas, copy = new OffscreenCanvas(width, height);
    copy.getContext("2d", {alpha: false}).drawImage(player.canvas, 0, 0);
    saveFile(await copy.convertToBlob({type: "image/png"}), fileName(modelName(), "png"));
    $("flash").classList.remove("go");
    void $("flash").offsetWidth;   // restarts the animation
    $("flash").classList.add("go");
  }

  function toggleRecording() {
    if (recorder.isOn) return recorder.stop();
    if (!player.shown) return;
    try { recorder.start(player.canvas, modelName()); } catch (error) { showToast(error.message); }
  }

  function toggleFullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else if ($("stage").requestFullscreen) $("stage").requestFullscreen().catch(error => showToast(error.message));
    else showToast("This browser does not support full screen here");
  }

  $("snapshot").onclick = saveSnapshot;
  $("record").onclick = toggleRecording;
  $("full").onclick = toggleFullScreen;
  return {saveSnapshot, toggleRecording, toggleFullScreen};
}
