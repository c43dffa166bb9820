"use strict";
/* The share of the styled frame in the video. It belongs to the run, so it is the same for all viewers. */

const STRENGTH_STEP = 0.1;         // for one key

let requestedStrength = null;      // what was set here, until the server reports it
let sendingStrength = false;

function renderStrength() {
  const strength = requestedStrength ?? state.strength, percent = `${Math.round(100 * strength)} %`;
  $("strength").disabled = false;
  $("strength").value = strength;
  $("strength").setAttribute("aria-valuetext", percent);
  $("strength-value").textContent = percent;
}

async function sendStrength() {    // one request at a time, and always the last value
  if (sendingStrength) return;
  sendingStrength = true;
  try {
    while (requestedStrength !== null) {
      const sent = requestedStrength;
      await request("api/strength", {strength: sent});
      await new Promise(resolve => setTimeout(resolve, 30));
      const answer = sent === requestedStrength ? await fetchState() : null;
      if (sent === requestedStrength) { requestedStrength = null; render(answer); }
    }
  } catch (error) {
    requestedStrength = null;
    renderStrength();
    showToast(errorText(error));
  } finally { sendingStrength = false; }
}

function setStrength(to) {
  if (!state) return;
  requestedStrength = Math.round(100 * Math.min(1, Math.max(0, to))) / 100;
  renderStrength();
  sendStrength();
}

function stepStrength(step) { if (state) setStrength((requestedStrength ?? state.strength) + step); }

$("strength").oninput = event => setStrength(Number(event.target.value));
