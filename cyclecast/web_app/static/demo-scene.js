/* The demo scene: a lake before hills under drifting clouds, with a sailing boat and poppies on the bank. */

const RIDGES = [                   // from far to near: top and relief as shares of the height, scale and speed in pixels a second
  {top: 0.30, relief: 0.17, scale: 260, speed: 3, colors: ["#93a6c4", "#7188ab"], grain: 0.10},
  {top: 0.39, relief: 0.12, scale: 190, speed: 7, colors: ["#68907f", "#4c7160"], grain: 0.22},
  {top: 0.48, relief: 0.07, scale: 120, speed: 13, colors: ["#5b7d33", "#33501f"], grain: 0.42},
];
const HORIZON = 0.56;

function random(seed) {            // in [0, 1), the same for the same number
  const value = Math.sin(seed * 127.1 + 11.7) * 43758.5453;
  return value - Math.floor(value);
}

function smooth(x, seed) {         // noise in [0, 1), smooth in x
  const cell = Math.floor(x), part = x - cell, ease = part * part * (3 - 2 * part);
  return random(cell + seed) * (1 - ease) + random(cell + 1 + seed) * ease;
}

function rough(x, seed) {          // the sum of four octaves, in [0, 1)
  let sum = 0, share = 0.53;
  for (let octave = 0; octave < 4; octave++, share /= 2) sum += share * smooth(x * 2 ** octave, seed + 37 * octave);
  return sum;
}

function fill(context, from, to, colors, x, y, width, height) {
  const gradient = context.createLinearGradient(0, from, 0, to);
  colors.forEach((color, index) => gradient.addColorStop(index / (colors.length - 1), color));
  context.fillStyle = gradient;
  context.fillRect(x, y, width, height);
}

const puffs = new Map();           // soft discs by color

function glow(context, x, y, radius, color, alpha) {
  if (!puffs.has(color)) {
    const disc = Object.assign(document.createElement("canvas"), {width: 64, height: 64}), drawing = disc.getContext("2d");
    const gradient = drawing.createRadialGradient(32, 32, 0, 32, 32, 32);
    for (const [stop, opacity] of [[0, "ff"], [0.3, "b0"], [0.65, "38"], [1, "00"]]) gradient.addColorStop(stop, color + opacity);
    drawing.fillStyle = gradient;
    drawing.fillRect(0, 0, 64, 64);
    puffs.set(color, disc);
  }
  context.globalAlpha = alpha;
  context.drawImage(puffs.get(color), x - 1.6 * radius, y - radius, 3.2 * radius, 2 * radius);
  context.globalAlpha = 1;
}

function drawSky(context, width, height, seconds) {
  fill(context, 0, height, ["#4a7dbf", "#93b7dc", "#f5d9ad"], 0, 0, width, height);
  glow(context, 0.7 * width, 0.66 * height, 0.34 * width, "#ffedc4", 0.5);
  glow(context, 0.7 * width, 0.66 * height, 0.08 * width, "#fffaea", 1);
  for (let index = 0; index < 170; index++) {  // puffs, in nine clouds
    const cloud = index % 9, span = 1.5 * width, height01 = random(index + 90) - 0.5;
    const x = (random(cloud) * span + (random(index + 50) - 0.5) * 0.26 * width + seconds * (7 + cloud)) % span - 0.2 * width;
    const y = height * (0.12 + 0.5 * random(cloud + 20) + 0.13 * height01);
    glow(context, x, y, width * (0.022 + 0.03 * random(index + 130)), height01 > 0.12 ? "#a9a8c4" : "#fff8ec", 0.42);
  }
}

function drawRidges(context, width, height, seconds) {
  RIDGES.forEach(({top, relief, scale, speed, colors, grain}, row) => {
    const offset = seconds * speed, edge = x => height * (top - relief * (2 * rough((x + offset) / scale, 100 * row) - 1));
    const gradient = context.createLinearGradient(0, (top - relief) * height, 0, HORIZON * height);
    colors.forEach((color, index) => gradient.addColorStop(index, color));
    context.fillStyle = gradient;
    context.beginPath();
    context.moveTo(0, HORIZON * height);
    for (let x = 0; x <= width + 4; x += 4) context.lineTo(x, edge(x));
    context.lineTo(width, HORIZON * height);
    context.fill();
    const first = Math.floor(offset / 9);
    for (let tree = first; tree < first + width / 9 + 2; tree++) {  // crowns, in light and in shadow
      for (let layer = 0; layer < 7; layer++) {
        const seed = 7 * tree + layer + 500 * row, x = tree * 9 - offset + 9 * random(seed);
        const y = edge(x) + (HORIZON * height - edge(x)) * random(seed + 3) ** 1.5 + 3;
        const size = (1.2 + 2.6 * random(seed + 5)) * (1 + row);
        context.fillStyle = random(seed + 9) > 0.5 ? `rgb(255 240 180 / ${grain})` : `rgb(12 30 24 / ${grain})`;
        context.beginPath();
        context.ellipse(x, Math.min(y, HORIZON * height - size), 0.7 * size, size, 0, 0, 7);
        context.fill();
      }
    }
  });
}

function drawBoat(context, width, height, seconds) {
  const size = 0.055 * width, x = ((0.2 + 0.02 * seconds) % 1.2 - 0.1) * width;
  const shapes = [
    ["#faf0e1", [[0.05, -0.12], [0.05, -1.5], [0.75, -0.12]]], ["#ecd6be", [[-0.02, -0.12], [-0.02, -1.25], [-0.5, -0.12]]],
    ["#603428", [[-0.6, -0.1], [0.8, -0.1], [0.6, 0.06], [-0.45, 0.06]]],
  ];
  context.save();
  context.translate(x, HORIZON * height);
  context.rotate(0.05 * Math.sin(1.7 * seconds));
  for (const [color, points] of shapes) {
    context.fillStyle = color;
    context.beginPath();
    for (const [px, py] of points) context.lineTo(px * size, py * size);
    context.fill();
  }
  context.restore();
}

function drawWater(context, land, width, height, seconds) {
  const horizon = Math.round(HORIZON * height), rows = height - horizon;
  for (let row = 0; row < rows; row += 2) {  // the landscape upside down, two rows at a time, moved by the waves
    const near = row / rows, phase = 90 * Math.sqrt(near + 0.02) - 3.1 * seconds, reach = 2 + 14 * near;
    const shift = reach * (Math.sin(phase) + 0.5 * Math.sin(2.3 * phase + 1));
    const from = Math.max(0, Math.min(horizon - 2, horizon - 2 - 0.9 * row - 0.7 * reach * Math.sin(phase)));
    context.drawImage(land, 0, from, width, 2, shift - 24, horizon + row, width + 48, 2);
  }
  fill(context, horizon, height, ["#2c5c7038", "#2c5c7080"], 0, horizon, width, rows);
  for (let index = 0; index < 220; index++) {  // the sun's path, and light on the waves
    const near = random(index) ** 1.4, isPath = index % 3 > 0;
    const glint = Math.sin(3 * seconds + 40 * random(index + 7));
    if (glint < 0) continue;
    const x = isPath ? width * (0.7 + (random(index + 300) - 0.5) * (0.06 + 0.16 * near)) : width * random(index + 600);
    context.fillStyle = `rgb(255 242 210 / ${glint * (isPath ? 0.6 : 0.22)})`;
    context.fillRect(x, horizon + near * rows, 5 + 26 * near, 1 + 2.4 * near);
  }
}

function drawBank(context, width, height, seconds) {
  const offset = 12 * seconds, first = Math.floor(offset / 3);
  for (let blade = first; blade < first + width / 3 + 8; blade++) {
    const x = blade * 3 - offset, length = height * (0.07 + 0.07 * random(blade)) + 10 * Math.sin(0.012 * (x + offset));
    const sway = 4 * Math.sin(0.03 * x + 2.4 * seconds) + 10 * (random(blade + 11) - 0.5);
    context.strokeStyle = ["#34521a", "#55782a", "#7d9a3c", "#446622"][Math.floor(4 * random(blade + 5))];
    context.lineWidth = 3 + 3 * random(blade + 8);
    context.beginPath();
    context.moveTo(x, height + 4);
    context.quadraticCurveTo(x, height - 0.6 * length, x + sway, height - length);
    context.stroke();
    if (random(blade + 17) < 0.86) continue;
    context.fillStyle = random(blade + 19) > 0.35 ? "#ce3428" : "#f0d678";
    context.beginPath();
    context.ellipse(x + sway, height - length, 4 + 3 * random(blade + 23), 4, 0, 0, 7);
    context.fill();
  }
}

let landscape = null;              // a canvas for what the water reflects

/* Draws the scene at this time into a 2D context, over all of its canvas. */
export function drawScene(context, seconds) {
  const {width, height} = context.canvas;
  landscape ??= document.createElement("canvas").getContext("2d", {alpha: false});
  const land = landscape.canvas;
  if (land.width !== width || land.height !== height) Object.assign(land, {width, height});
  drawSky(landscape, width, HORIZON * height, seconds);
  drawRidges(landscape, width, height, seconds);
  drawBoat(landscape, width, height, seconds);
  context.drawImage(land, 0, 0);
  drawWater(context, land, width, height, seconds);
  drawBank(context, width, height, seconds);
}
