"use strict";
/* Requests to the server, and messages to the user. */

const $ = id => document.getElementById(id);
const viewerId = Array.from(crypto.getRandomValues(new Uint8Array(12)), b => b.toString(16).padStart(2, "0")).join("");

const urlToken = new URLSearchParams(location.search).get("token");  // for browsers that keep no cookie

async function request(path, body) {
  const headers = urlToken === null ? {} : {Authorization: `Bearer ${urlToken}`};
  const response = await fetch(path, body === undefined ? {headers} : {
    method: "POST", headers: {...headers, "Content-Type": "application/json"}, body: JSON.stringify(body),
  });
  if (response.ok) return response.status === 204 ? null : response.json();
  const answer = await response.json().catch(() => ({}));
  throw Object.assign(new Error(answer.error || `the server answered ${response.status}`), {status: response.status});
}

async function peerConfiguration() { return {...await request("api/ice"), bundlePolicy: "max-bundle"}; }

function fetchState() { return request(`api/state?viewer=${viewerId}`); }

function errorText(error) { return error instanceof TypeError ? "cyclecast does not answer" : error.message; }

function setText(id, text) { if ($(id).textContent !== text) $(id).textContent = text; }  // screen readers announce each write

function showToast(text, milliseconds = 5000) {
  for (const other of $("toasts").children) if (other.textContent === text) other.remove();
  const toast = document.createElement("div");
  toast.className = "toast";
  toast.textContent = text;
  $("toasts").append(toast);
  setTimeout(() => toast.remove(), milliseconds);
}
