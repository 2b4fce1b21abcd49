// "Why this post": where it came from, what each predicted action is worth, and every step to its score, as bars.

import { bar, el, number } from "/web/dom.js";
import { renderModels } from "/web/models.js";

const spaced = (name) => name.replaceAll("_", " ");

export function renderWhy(why) {
  const parts = [el("p", { class: "sum" }, spaced(why.summary))];
  if (why.sources.length) {
    parts.push(el("h3", {}, "Found by"), el("div", { class: "chips" }, ...why.sources.map((s) => el("span", { class: "chip" }, spaced(s)))));
  }
  if (why.dropped_by) {
    parts.push(el("h3", {}, "Left out by"), el("p", {}, el("span", { class: "chip bad" }, spaced(why.dropped_by)), ` ${why.dropped_because ?? ""}`));
  }
  if (why.not_retrieved?.length) {
    parts.push(el("h3", {}, "Why no source brought it"));
    const rows = why.not_retrieved.map((s) => el("tr", {}, el("td", {}, spaced(s.source)), el("td", {}, s.reason)));
    parts.push(el("table", { class: "steps" }, el("tbody", {}, ...rows)));
  }
  parts.push(...renderModels(why.models));
  if (why.actions?.length) parts.push(...renderActions(why));
  if (why.steps?.length) parts.push(...renderSteps(why));
  if (why.reranking) parts.push(el("h3", {}, "Among the others"), el("p", {}, why.reranking));
  return el("div", { class: "why" }, ...parts);
}

function renderActions(why) {
  const shown = why.actions.filter((a) => a.contribution !== 0);
  const most = Math.max(...shown.map((a) => Math.abs(a.contribution)), 1e-12);
  const rows = shown.slice(0, 14).flatMap((a) =>
    bar(spaced(a.name), {
      length: Math.abs(a.contribution) / most,
      negative: a.contribution < 0,
      shown: `${number(a.probability)} × ${number(a.weight)} = ${number(a.contribution)}`,
      title: "probability × weight = contribution",
    }));
  return [
    el("h3", {}, "What you might do with it: probability × weight"),
    el("div", { class: "bars actions" }, ...rows),
    el("p", { class: "small" }, `Together ${number(why.value, 6)}${shown.length > 14 ? `, with ${shown.length - 14} smaller ones` : ""}.`),
  ];
}

function renderSteps(why) {
  const rows = [el("tr", {}, el("td", {}, "sum, brought above zero"), el("td", {}, ""), el("td", {}, number(why.offset_value, 6)))];
  // A step that changed nothing is left out; the others still lead from the first score to the last.
  for (const step of why.steps.filter((s) => s.amount !== (s.kind === "add" ? 0 : 1))) {
    const sign = step.kind === "add" ? "+" : "×";
    rows.push(el("tr", {}, el("td", {}, spaced(step.name)), el("td", {}, `${sign} ${number(step.amount, 5)}`), el("td", {}, number(step.score_after, 6))));
  }
  const head = el("tr", {}, el("th", {}, "step"), el("th", {}, "by"), el("th", {}, "score"));
  return [
    el("h3", {}, "From there to the score"),
    el("table", { class: "steps" }, el("thead", {}, head), el("tbody", {}, ...rows)),
  ];
}
