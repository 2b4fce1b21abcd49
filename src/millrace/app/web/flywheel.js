// "Flywheel": how the feed learns from what is done with it: what serves, the last hours, the join, what was decided and why.

import * as api from "/web/api.js";
import { count, el, number } from "/web/dom.js";

const EVERY_MS = 3000;
const FIGURES = [
  { name: "auc", title: "AUC", means: "how well it tells what people do from what they do not; 0.5 is a coin, 1 is perfect" },
  { name: "normalised_entropy", title: "Normalised entropy", means: "surprise beside that of knowing rates alone; lower is better, above 1 is worse than nothing" },
  { name: "calibration", title: "Calibration", means: "predicted over done; 1 is right" },
];

const percent = (fraction, digits = 1) => (fraction === null || fraction === undefined ? "–" : `${(100 * fraction).toFixed(digits)} %`);
const clock = (ms) => new Date(ms).toISOString().slice(5, 16).replace("T", " ");
const lasting = (ms) => (ms < 90e3 ? `${(ms / 1000).toFixed(0)} s` : ms < 5400e3 ? `${(ms / 60e3).toFixed(0)} min` : `${(ms / 3600e3).toFixed(1)} h`);

/** Fills `body`, and keeps it true for as long as `isOpen()` says so. */
export async function showFlywheel(body, isOpen) {
  try {
    const told = await api.flywheel();
    if (!isOpen()) return;
    const opened = new Set([...body.querySelectorAll("details[open]")].map((node) => node.dataset.round));
    body.replaceChildren(renderFlywheel(told, opened));
  } catch (error) {
    if (!isOpen()) return;
    if (!body.querySelector(".flywheel")) body.replaceChildren(el("p", { class: "status bad" }, api.worded(error)));
  }
  setTimeout(() => isOpen() && showFlywheel(body, isOpen), EVERY_MS);
}

export function renderFlywheel(told, opened = new Set()) {
  return el("div", { class: "flywheel" },
    el("p", { class: "sum" }, "Serving now: ", el("span", { class: "chip", id: "live-version" }, told.live_version || "no ranker: counters rank")),
    el("p", { class: "small" }, told.is_learning ? "A round is at work." : told.learns ? "Learns on by itself." : "Does not learn on by itself (flywheel.learns)."),
    ...(told.problems ?? []).map((problem) => el("p", { class: "small" }, el("span", { class: "chip bad" }, problem))),
    ...renderGuards(told.guards), ...renderJoin(told.join), ...renderHours(told.hours), ...renderDecisions(told, opened));
}

function renderJoin(join) {
  if (!join) return [];
  const chips = [
    ["join rate", percent(join.join_rate)], ["samples", count(join.n_samples)],
    ["late", percent(join.late_share)], ["sure up to", `${lasting(join.lag_ms)} ago`], ["records not heard", count(join.lag_records)],
    ["as of", clock(join.told_ms)],
  ].map(([name, shown]) => el("span", { class: "chip" }, `${name} ${shown}`));
  if (join.alarm) chips.push(el("span", { class: "chip bad" }, join.alarm));
  return [el("h3", {}, "From impressions to samples"), el("div", { class: "chips", id: "join" }, ...chips)];
}

function renderGuards(guards) {
  if (!guards?.length) return [];
  const bad = guards.filter((guard) => guard.is_alarmed);
  const chips = bad.length
    ? bad.map((guard) => el("span", { class: "chip bad" }, guard.words))
    : [el("span", { class: "chip" }, `${guards.length} guards, none alarmed`)];
  for (const [state, says] of [["warning", "worth a look"], ["waiting", "waiting for more rows"]]) {
    const those = guards.filter((guard) => guard.state === state);
    if (those.length) chips.push(el("span", { class: "chip", title: those.map((guard) => guard.words).join("\n") }, `${those.length} ${says}`));
  }
  return [el("h3", {}, "Guards"), el("div", { class: "chips", id: "guards" }, ...chips)];
}

function renderHours(hours) {
  const rounds = hours.filter((hour) => FIGURES.some(({ name }) => hour[name] !== null));
  if (!rounds.length) return [el("h3", {}, "The last hours"), el("p", { class: "small" }, "No hour was predicted and learned from yet.")];
  const charts = FIGURES.map(({ name, title, means }) => {
    const values = rounds.map((hour) => hour[name]);
    const newest = values.findLast((value) => value !== null);
    return el("figure", { class: "spark" },
      el("figcaption", { title: means }, `${title} `, el("b", {}, newest === undefined ? "–" : number(newest))),
      line(values, `${title} of the last ${rounds.length} rounds, the newest ${newest === undefined ? "unknown" : number(newest)}`));
  });
  const last = rounds.at(-1);
  return [
    el("h3", {}, "The last hours, predicted before anything learned from them"),
    el("div", { class: "sparks" }, ...charts),
    el("p", { class: "small" }, `${rounds.length} rounds; the newest: ${count(last.n_pages)} pages until ${clock(last.until_ms)}, predicted by ${last.version}`),
  ];
}

/** A line of values as an SVG; gaps where nothing is known. */
function line(values, label) {
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const span = high - low || Math.abs(high) || 1;
  const x = (i) => (values.length > 1 ? (198 * i) / (values.length - 1) + 1 : 100);
  const y = (value) => 37 - (34 * (value - (high === low ? value - span / 2 : low))) / span;
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const parts = values.map((value, i) => (value === null ? "" : `${i && values[i - 1] !== null ? "L" : "M"}${x(i).toFixed(1)},${y(value).toFixed(1)}`));
  for (const [name, value] of Object.entries({ viewBox: "0 0 200 40", role: "img", "aria-label": label, preserveAspectRatio: "none" })) svg.setAttribute(name, value);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", parts.join(""));
  const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  const at = values.findLastIndex((value) => value !== null);
  for (const [name, value] of Object.entries({ cx: x(at), cy: y(values[at]), r: 2 })) dot.setAttribute(name, value);
  svg.append(path, dot);
  return svg;
}

function renderDecisions(told, opened) {
  const items = told.decisions.map((decision) => {
    const isBack = decision.verdict === "promoted" && told.withdrawn.includes(decision.to_version);
    const verdict = isBack ? "rolled back since" : decision.verdict;
    const isBad = isBack || decision.verdict === "refused";
    const rules = decision.rules.map((rule) =>
      el("tr", {}, el("td", {}, el("span", { class: rule.is_kept ? "chip" : "chip bad" }, rule.is_kept ? "kept" : "broken")), el("td", {}, rule.words)));
    return el("details", { "data-round": decision.number, open: opened.has(String(decision.number)) },
      el("summary", {}, el("span", { class: isBad ? "chip bad" : "chip" }, verdict), ` ${clock(decision.until_ms)} · ${decision.why}`),
      el("p", { class: "small" }, `${count(decision.n_pages)} pages, ${count(decision.n_learned)} learned from, ${count(decision.n_judged)} judged on; ` +
        `${decision.from_version || "nothing"} → ${decision.to_version || "nothing"}`),
      rules.length ? el("table", {}, el("tbody", {}, ...rules)) : null);
  });
  return [
    el("h3", {}, "What was decided, and why"),
    ...(items.length ? [el("div", { id: "decisions" }, ...items)] : [el("p", { class: "small" }, "Nothing yet: the first models come first.")]),
  ];
}
