/* The page: reads the address, opens the source and the model, and keeps what is shown up to date. */

import {look, startCompare, stepSlider, stepStrength, toggleCompare} from "./compare.js";
import {$, hideOverlay, setPressed, setText, showOverlay, showToast} from "./dom.js";
import {fillGallery, renderGallery} from "./gallery.js";
import {HEIGHTS} from "./geometry.js";
import {renderTitles, startKeys, toggleHelp} from "./keys.js";
import {findAdapter, isIos} from "./machine.js";
import {Meter} from "./meter.js";
import {startOutputs} from "./output-tools.js";
import {makePlan, pathText} from "./plan.js";
import {Player} from "./player.js";
import {parseSize, readAddress, settings, writeAddress} from "./settings.js";
import {startSources} from "./source-tools.js";
import {Switcher} from "./switcher.js";
import {keepScreenOn} from "./wakelock.js";

const REFRESH = 500;               // ms between two updates of the numbers
const RUNS_ON_IOS = 400;           // Safari 26 on iOS crashes after about 500 runs of a session

const meter = new Meter();
let models = [], adapter = null, isZeroCopy = false, hasFailed = false;

const player = new Player($("canvas"), look, {
  onshown: (styled, renderer) => {
    hideOverlay();
    hasFailed = false;
    isZeroCopy = styled.isZeroCopy;
    meter.add(styled.ms);
    Object.assign($("canvas").dataset, {shown: player.shown, model: renderer.plan.model, runs: renderer.runs});
    if (isIos && renderer === switcher.active && renderer.runs >= RUNS_ON_IOS) switcher.renew();
  },
  onfailed: (error, renderer) => switcher.recover(renderer, error.message),
});

const switcher = new Switcher({
  onactive: renderer => {
    player.setRenderer(renderer);
    if (!renderer) return;
    const {width, height} = renderer.plan;
    meter.reset();
    document.documentElement.style.setProperty("--ratio", width / height);
    setText("frame-size", `${width}×${height}`);
  },
  onchange: render,
  onfailed: (plan, error) => fail(`Could not run ${plan.model} at ${plan.width}×${plan.height}`, error),
});

/* Goes back to what runs, or says why nothing does. */
function fail(title, error) {
  const kept = switcher.active?.plan;
  if (kept) {
    Object.assign(settings, kept.settings);
    renderSettings();
    showToast(`${title}: ${error.message}. The video goes on as before`, 12000);
  } else {
    hasFailed = true;
    showOverlay(title, `${error.message}. Another entry of “Runs on” may work.`);
  }
  render();
}

function selectModel(name) {
  if (!name) return;
  settings.model = name;
  apply();
}

function selectNextModel(step) {
  const index = models.findIndex(model => model.name === settings.model);
  selectModel(models[(index + step + models.length) % models.length]?.name);
}

/* Prepares what the settings and the source need; the video goes on meanwhile. */
function apply() {
  const model = models.find(model => model.name === settings.model);
  if (!model || !player.source) return;
  writeAddress();
  hasFailed = false;
  try {
    const plan = makePlan(model, settings, player.source.ratio, adapter);
    setText("notice", plan.notice);
    if (!switcher.active) {
      const isFirstVisit = !navigator.serviceWorker?.controller;
      showOverlay(`Preparing ${model.title}`, isFirstVisit ? "The first visit loads 27 MB. Later ones need no network." : "");
    }
    switcher.select(plan);
  } catch (error) { fail("This cannot run here", error); }
}

function statusWord() {
  if (hasFailed) return "failed";
  if (!player.shown || !switcher.active) return "loading";
  if (player.isPaused || document.hidden) return "paused";
  return player.source.isStill ? "image" : "live";
}

function render() {
  const word = statusWord(), isMoving = word === "live", {active} = switcher;
  setText("status", word);
  $("status-light").className = `status-light ${{live: "on", image: "on", failed: "off"}[word] ?? ""}`;
  $("fps").textContent = isMoving ? meter.fps?.toFixed(1) ?? "–" : "–";
  $("ms").textContent = meter.ms === null ? "–" : Math.round(meter.ms);
  setText("path", active && player.shown ? pathText(active, isZeroCopy) : "–");
  renderGallery(active?.plan.model, switcher.wanted?.model);
  keepScreenOn(isMoving);
}

function toggleMirror() {
  look.isMirrored = !look.isMirrored;
  setPressed($("mirror"), look.isMirrored);
  player.restyle();
}

function sizeValue(size) { return size === null ? "" : [].concat(size).join("x"); }

function renderSettings() {        // and the address
  const size = sizeValue(settings.size);
  if (![...$("size").options].some(option => option.value === size)) $("size").append(new Option(size.replace("x", "×"), size));
  $("size").value = size;
  $("engine").value = settings.path;
  writeAddress();
}

async function start() {
  const [response, found] = await Promise.all([fetch("models.json"), findAdapter()]);
  if (!response.ok) throw new Error(`models.json: the server answered ${response.status}`);
  ({models} = await response.json());
  adapter = found;
  for (const problem of readAddress(models.map(model => model.name))) showToast(problem, 12000);
  fillGallery(models, selectModel);
  $("size").append(new Option("automatic", ""), ...HEIGHTS.map(height => new Option(`${height}p`, height)));
  renderSettings();
  $("size").onchange = event => { settings.size = parseSize(event.target.value); apply(); };
  $("engine").onchange = event => { settings.path = event.target.value; apply(); };
  $("mirror").onclick = toggleMirror;
  startCompare(() => player.repaint());
  const modelName = () => switcher.active?.plan.model ?? settings.model;
  const {saveSnapshot, toggleRecording, toggleFullScreen} = startOutputs(player, modelName);
  const {selectDemo, togglePause} = startSources(player, () => { meter.reset(); apply(); });
  const click = id => () => $(id).click();
  startKeys({
    n: () => selectNextModel(1), p: () => selectNextModel(-1), s: toggleCompare, m: toggleMirror, c: saveSnapshot,
    r: toggleRecording, f: toggleFullScreen, h: toggleHelp, x: togglePause, k: click("camera"), o: click("open"), d: selectDemo,
    ArrowLeft: () => stepSlider(-1), ArrowRight: () => stepSlider(1), ",": () => stepSlider(-1), ".": () => stepSlider(1),
    "[": () => stepStrength(-1), "-": () => stepStrength(-1),
    "]": () => stepStrength(1), "+": () => stepStrength(1), "=": () => stepStrength(1),
  }, index => selectModel(models[index]?.name));
  renderTitles();
  await selectDemo();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) togglePause();
  setInterval(render, REFRESH);
  if (isSecureContext) navigator.serviceWorker?.register("sw.js").catch(() => {});  // the page works without it, too
}

start().catch(error => {
  hasFailed = true;
  showOverlay("The page could not start", error.message);
});
