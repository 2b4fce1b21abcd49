// "Flywheel": how the feed learns from what is done with it: what serves, the last hours, the join, what was decided and why.

import * as api from "/web/api.js";
import { count, el, number } from "/web/dom.js";

const EVERY_MS = 3000;
const SHOWN_REASONS = 3;
const FIGURES = [
  { name: "auc", title: "AUC", means: "how well it tells what people do from what they do not; 0.5 is a coin, 1 is perfect" },
  { name: "normalised_entropy", title: "Normalised entropy", means: "surprise beside that of knowing rates alone; lower is better, above 1 is worse than nothing" },
  { name: "calibration", title: "Calibration", means: "predicted over done; 1 is right" },
];

const percent = (fraction, digits = 1) => (fraction === null || fraction === undefined ? "–" : `${(100 * fraction).toFixed(digits)} %`);
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: "UTC" });
// In virtual time there are two clocks, and every moment says which: the world's for what was served and done, ours for
// what processes did. Elsewhere both are one.
const eventTime = (ms, { clocks }) => `${DAY.format(ms)} ${clocks.is_virtual ? "world time" : "UTC"}`;
const realTime = (ms, { clocks }) => `${DAY.format(ms)} UTC${clocks.is_virtual ? " real time" : ""}`;
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
    el("p", { class: "small", id: "doing" }, told.doing ? `Now ${told.doing}.` : told.is_learning ? "A round is at work." :
      told.learns ? "Learns on by itself." : "Does not learn on by itself (flywheel.learns)."),
    told.clocks.words ? el("p", { class: "small", id: "clocks" }, `${told.clocks.words[0].toUpperCase()}${told.clocks.words.slice(1)}.`) : null,
    ...(told.problems ?? []).map((problem) => el("p", { class: "small" }, el("span", { class: "chip bad" }, problem))),
    ...renderGuards(told, opened), ...renderJoin(told), ...renderHours(told), ...renderTakenBack(told), ...renderDecisions(told, opened));
}

function renderTakenBack(told) {
  const rankers = told.taken_back;
  if (!rankers?.length) return [];
  return [
    el("h3", {}, "Taken back"),
    el("ul", { id: "taken-back" }, ...rankers.map((back) =>
      el("li", {}, el("span", { class: "chip bad" }, back.version), ` ${realTime(back.at_ms, told)}`,
        el("span", { class: "why" }, back.reason)))),
  ];
}

function renderJoin(told) {
  const { join, clocks } = told;
  if (!join) return [];
  const chips = [
    ["join rate", percent(join.join_rate)], ["samples", count(join.n_samples)],
    ["late", percent(join.late_share)], ["sure up to", `${lasting(join.lag_ms)}${clocks.is_virtual ? " of world time" : ""} ago`], ["records not heard", count(join.lag_records)],
    ["as of", eventTime(join.told_ms, told)],
  ].map(([name, shown]) => el("span", { class: "chip" }, `${name} ${shown}`));
  if (join.alarm) chips.push(el("span", { class: "chip bad" }, join.alarm));
  return [el("h3", {}, "From impressions to samples"), el("div", { class: "chips", id: "join" }, ...chips)];
}

function renderGuards(told, opened) {
  const { guards, clocks } = told;
  if (!guards?.length) return [];
  const bad = guards.filter((guard) => guard.is_alarmed);
  const others = guards.filter((guard) => !guard.is_alarmed);
  const chips = bad.length
    ? bad.map((guard) => el("span", { class: "chip bad" }, guard.words))
    : [el("span", { class: "chip" }, `${guards.length} guards, none alarmed`)];
  for (const [state, says] of [["warning", "worth a look"], ["waiting", "waiting for more rows"]]) {
    const those = guards.filter((guard) => guard.state === state);
    if (those.length) chips.push(el("span", { class: "chip" }, `${those.length} ${says}`));
  }
  if (clocks.is_virtual && told.guards_event_ms) chips.push(el("span", { class: "chip" }, `as of ${eventTime(told.guards_event_ms, told)}`));
  else if (told.guards_told_ms) chips.push(el("span", { class: "chip" }, `as of ${realTime(told.guards_told_ms, told)}`));
  return [
    el("h3", {}, "Guards"), el("div", { class: "chips", id: "guards" }, ...chips),
    el("details", { "data-round": "guards", open: opened.has("guards") }, el("summary", { class: "small" }, "What each of them says"),
      el("ul", { class: "small" }, ...[...bad, ...others].map((guard) => el("li", {}, guard.words)))),
  ];
}

function renderHours(told) {
  const rounds = told.hours.filter((hour) => FIGURES.some(({ name }) => hour[name] !== null));
  if (!rounds.length) return [el("h3", {}, "The last hours"), el("p", { class: "small" }, "No hour was predicted and learned from yet.")];
  const charts = FIGURES.map(({ name, title, means }) => {
    const values = rounds.map((hour) => hour[name]);
    const known = values.filter((value) => value !== null);
    const newest = known.at(-1);
    return el("figure", { class: "spark" },
      el("figcaption", { title: means }, `${title} `, el("b", {}, newest === undefined ? "–" : number(newest))),
      line(values, rounds.map((hour, i) => i > 0 && hour.version !== rounds[i - 1].version),
        `${title} of the last ${rounds.length} rounds, the newest ${newest === undefined ? "unknown" : number(newest)}`),
      known.length > 1 ? el("span", { class: "range" }, `${number(Math.min(...known))} to ${number(Math.max(...known))}`) : null);
  });
  const last = rounds.at(-1);
  return [
    el("h3", {}, "The last hours, predicted before anything learned from them"),
    el("div", { class: "sparks" }, ...charts),
    el("p", { class: "small" }, `${rounds.length === 1 ? "One round" : `${rounds.length} rounds`}; the newest: ${count(last.n_pages)} pages until ` +
      `${eventTime(last.until_ms, told)}, predicted by ${last.version}. An upright line: another version predicts from there on.`),
  ];
}

/** A line of values as an SVG; gaps where nothing is known, an upright line where `isNew`. */
function line(values, isNew, label) {
  const known = values.filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const span = high - low || Math.abs(high) || 1;
  const x = (i) => (values.length > 1 ? (190 * i) / (values.length - 1) + 5 : 100).toFixed(1);
  const y = (value) => (36 - (32 * (value - (high === low ? value - span / 2 : low))) / span).toFixed(1);
  const svg = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const path = values.map((value, i) => (value === null ? "" : `${i && values[i - 1] !== null ? "L" : "M"}${x(i)},${y(value)}`)).join("");
  const at = values.findLastIndex((value) => value !== null);
  const root = svg("svg", { viewBox: "0 0 200 40", role: "img", "aria-label": label, preserveAspectRatio: "none" });
  root.append(
    svg("path", { class: "new", d: values.map((_, i) => (isNew[i] ? `M${x(i)},0V40` : "")).join("") }),
    svg("path", { d: path }),
    ...(at < 0 ? [] : [svg("path", { class: "dot", d: `M${x(at)},${y(values[at])}h0` })]));
  return root;
}

/** Why it was decided so, a reason a line: what is refused may have many, of which the first are shown. */
function reasons({ why, rules }) {
  const broken = rules.filter((rule) => !rule.is_kept).map((rule) => rule.words);
  const all = broken.join("; ");
  if (!broken.length || !why.startsWith(all)) return [why];
  const nMore = broken.length - SHOWN_REASONS;
  return [...broken.slice(0, SHOWN_REASONS), nMore > 0 ? `and ${nMore} more` : "", why.slice(all.length).trim()].filter(Boolean);
}

function renderDecisions(told, opened) {
  const students = (told.distillations ?? []).map((each) => {
    const isBad = each.verdict !== "promoted";
    return el("p", { class: "small pre-ranker" },
      el("span", { class: isBad ? "chip bad" : "chip" }, `pre-ranker ${each.verdict}`), ` Pages until ${eventTime(each.until_ms, told)} · ${each.why}`);
  });
  const items = told.decisions.map((decision) => {
    const isBack = decision.verdict === "promoted" && told.withdrawn.includes(decision.to_version);
    const verdict = isBack ? "rolled back since" : decision.verdict;
    const isBad = isBack || decision.verdict === "refused";
    const rules = [...decision.rules].sort((a, b) => a.is_kept - b.is_kept).map((rule) =>
      el("tr", {}, el("td", {}, el("span", { class: rule.is_kept ? "chip" : "chip bad" }, rule.is_kept ? "kept" : "broken")), el("td", {}, rule.words)));
    return el("details", { "data-round": decision.number, open: opened.has(String(decision.number)) },
      el("summary", {}, el("span", { class: isBad ? "chip bad" : "chip" }, verdict), ` Round ${decision.number} · pages until ${eventTime(decision.until_ms, told)}`,
        ...reasons(decision).map((reason) => el("span", { class: "why" }, reason))),
      el("p", { class: "small" }, `${count(decision.n_pages)} pages, ${count(decision.n_learned)} learned from, ${count(decision.n_judged)} judged on; ` +
        `${decision.from_version || "nothing"} → ${decision.to_version || "nothing new"}; decided ${realTime(decision.at_ms, told)}`),
      rules.length ? el("table", {}, el("tbody", {}, ...rules)) : null);
  });
  return [
    el("h3", {}, "What was decided, and why"),
    ...(items.length ? [el("div", { id: "decisions" }, ...items)] : [el("p", { class: "small" }, "Nothing yet: the first models come first.")]),
    ...(students.length ? [el("div", { id: "distillations" }, ...students.slice(0, 3))] : []),
  ];
}
