/* The styles, each with an image of what it does. */

import {$, setPressed} from "./dom.js";

/* models: of models.json. onselect(name) */
export function fillGallery(models, onselect) {
  $("styles").replaceChildren(...models.map((model, index) => {
    const [button, image, title] = ["button", "img", "span"].map(name => document.createElement(name));
    button.className = "style";
    button.dataset.model = model.name;
    const about = [model.about, model.author && `By ${model.author}`, model.license].filter(Boolean);
    button.dataset.about = about.map(text => text.replace(/\.$/, "")).join(". ");
    if (index < 9) button.dataset.key = index + 1;
    Object.assign(image, {src: model.thumbnail, alt: "", width: 96, height: 54, decoding: "async"});
    title.textContent = model.title;
    button.append(image, title);
    button.onclick = () => onselect(model.name);
    return button;
  }));
}

/* active, wanted: names; they differ while a style is being prepared. */
export function renderGallery(active, wanted) {
  for (const button of $("styles").children) {
    const {model} = button.dataset, wasActive = button.getAttribute("aria-pressed") === "true";
    if (model === active && !wasActive) button.scrollIntoView({block: "nearest", inline: "center"});
    setPressed(button, model === active);
    button.setAttribute("aria-busy", String(model === wanted && model !== active));
  }
}
