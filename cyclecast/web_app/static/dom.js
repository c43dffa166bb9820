/* The page's elements, and messages to the user. */

export const $ = id => document.getElementById(id);

export function setText(id, text) {  // screen readers announce each write
  if ($(id).textContent !== text) $(id).textContent = text;
}

export function setPressed(element, on) { element.setAttribute("aria-pressed", String(on)); }

export function showToast(text, milliseconds = 5000) {
  for (const other of $("toasts").children) if (other.textContent === text) other.remove();
  const toast = document.createElement("div");
  toast.className = "toast";
  toast.textContent = text;
  $("toasts").append(toast);
  setTimeout(() => toast.remove(), milliseconds);
}

export function showOverlay(title, detail = "") {
  $("overlay").hidden = false;
  setText("overlay-title", title);
  setText("overlay-detail", detail);
}

export function hideOverlay() { $("overlay").hidden = true; }

export function saveFile(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  showToast(`Saved ${name}`, 3000);
}

export function fileName(model, suffix) {  // with the local time: cyclecast-monet-20261128-210500.png
  const now = new Date(), pad = number => String(number).padStart(2, "0");
  const date = `${now.getFullYear()}${pad(now.getMonth() + 1)}${pad(now.getDate())}`;
  return `cyclecast-${model}-${date}-${pad(now.getHours())}${pad(now.getMinutes())}${pad(now.getSeconds())}.${suffix}`;
}
