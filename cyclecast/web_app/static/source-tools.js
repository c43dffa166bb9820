/* The buttons that choose the source, and what is dropped on the page. */

import {$, setPressed, setText, showToast} from "./dom.js";
import {listCameras, openCamera, openDemo, openFile} from "./sources.js";

/* player: gets the source. onsource(source): called when there is another one */
export function startSources(player, onsource) {
  let opening = 0, active = null;

  async function select(type, open) {
    const number = ++opening;
    try {
      const source = await open();
      if (number !== opening) return source.close();  // another one was selected since
      active = type;
      if (source.track) source.track.onended = () => { if (player.source === source) lose(source.name); };
      player.setSource(source);
      onsource(source);
      await render(source);
    } catch (error) { showToast(error.message, 8000); }
  }

  function lose(name) {
    showToast(`${name} has stopped`);
    selectDemo();
  }

  async function render(source) {
    for (const type of ["camera", "demo"]) setPressed($(type), type === active);
    $("camera").classList.toggle("main", active !== "camera");
    setText("source", source.name);
    setPressed($("pause"), player.isPaused);
    $("pause").disabled = source.isStill;
    const cameras = active === "camera" ? await listCameras() : [];
    $("cameras-field").hidden = cameras.length < 2;
    $("cameras").replaceChildren(...cameras.map(({id, name}) => new Option(name, id, false, id === source.deviceId)));
  }

  const selectDemo = () => select("demo", async () => openDemo());
  const selectFile = file => select("file", () => openFile(file));
  const selectCamera = id => select("camera", () => openCamera(id));

  function togglePause() {
    if (!player.source || player.source.isStill) return;
    player.setPaused(!player.isPaused);
    setPressed($("pause"), player.isPaused);
    onsource(player.source);
  }

  $("camera").onclick = () => active === "camera" ? selectDemo() : selectCamera();
  $("cameras").onchange = event => selectCamera(event.target.value);
  $("demo").onclick = selectDemo;
  $("open").onclick = () => $("file").click();
  $("pause").onclick = togglePause;
  $("file").onchange = event => {
    const [file] = event.target.files;
    event.target.value = "";       // so that the same file can be chosen again
    if (file) selectFile(file);
  };
  navigator.mediaDevices?.addEventListener?.("devicechange", () => { if (player.source) render(player.source); });

  let inside = 0;                  // elements under the pointer that were entered and not left
  const isFile = event => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", event => { if (isFile(event)) { inside++; $("drop").hidden = false; } });
  addEventListener("dragleave", event => { if (isFile(event) && --inside <= 0) { inside = 0; $("drop").hidden = true; } });
  addEventListener("dragover", event => { if (isFile(event)) event.preventDefault(); });
  addEventListener("drop", event => {
    if (!isFile(event)) return;
    event.preventDefault();
    inside = 0;
    $("drop").hidden = true;
    selectFile(event.dataTransfer.files[0]);
  });
  return {selectDemo, togglePause};
}
