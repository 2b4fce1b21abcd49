// Virtual time, in the page's header: what time it is in the world, and how fast it goes, as it is measured here.

import * as api from "/web/api.js";

const EVERY_MS = 2000;
const WINDOW_MS = 60000; // the speed is that of the last minute: time goes in steps, and waits for a busy server
const ENOUGH_MS = 12000;

const samples = []; // [real, virtual]

/** Shown in `node` for as long as the page is open, and `note` with it; not at all where time is real. */
export async function showWorldTime(node, note) {
  let isVirtual = true;
  try {
    if (!document.hidden) isVirtual = await tell(node, note);
  } catch {
    // The page itself says when the server does not answer.
  }
  if (isVirtual) setTimeout(showWorldTime, EVERY_MS, node, note);
}

async function tell(node, note) {
  const { ms, isVirtual } = await api.time();
  node.hidden = note.hidden = !isVirtual;
  if (!isVirtual) return false;
  const now = performance.now();
  samples.push([now, ms]);
  while (samples[0][0] < now - WINDOW_MS) samples.shift();
  node.textContent = [`World time ${clock(ms)}`, speed()].filter(Boolean).join(" · ");
  return true;
}

const clock = (ms) => new Date(ms).toLocaleString("en-GB", { hour: "2-digit", minute: "2-digit", timeZone: "UTC" });

function speed() {
  const [[began, first], [ended, last]] = [samples[0], samples.at(-1)];
  if (ended - began < ENOUGH_MS) return "";
  const times = (last - first) / (ended - began);
  return times ? `${Number(times.toPrecision(2))}×` : "stands still";
}
