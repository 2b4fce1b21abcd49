// "How this page was made": the funnel from sources to page, and who took how long.

import { bar, count, el } from "/web/dom.js";
import { renderModels } from "/web/models.js";

const spaced = (name) => name.replaceAll("_", " ");

export function renderMade(trace) {
  const parts = [
    el("p", { class: "sum" },
      `${count(trace.n_candidates)} posts were found, ${count(trace.n_ranked)} passed the filters, ` +
      `${count(trace.n_slate)} are on the page. It took ${trace.total_ms.toFixed(1)} ms.`),
  ];
  if (trace.degraded) {
    const said = trace.outcomes.map((o) => el("span", { class: "chip bad" }, `${o.component}: ${o.fate}`));
    parts.push(el("div", { class: "chips" }, ...said));
  }
  parts.push(...renderModels(trace.models), ...renderFunnel(trace), ...renderWaterfall(trace), ...renderParams(trace));
  return el("div", { class: "made" }, ...parts);
}

function renderFunnel(trace) {
  const most = Math.max(trace.n_candidates, ...trace.sources.map((s) => s.n_found), 1);
  const sources = trace.sources.flatMap((s) => bar(spaced(s.name), {
    length: s.n_found / most,
    shown: s.fate === "ok" ? `${count(s.n_found)}, ${count(s.n_unique)} alone` : s.fate,
    title: `${s.n_unique} of them found by no other source`,
  }));
  const rows = [...bar("all sources", { length: trace.n_candidates / most, shown: count(trace.n_candidates) })];
  let left = trace.n_candidates;
  for (const filter of trace.filters) {
    if (!filter.n_dropped) continue;
    left -= filter.n_dropped;
    rows.push(...bar(spaced(filter.name), { length: Math.max(left, 0) / most, shown: `−${count(filter.n_dropped)}`, title: "left after it" }));
  }
  rows.push(...bar("ranked", { length: trace.n_ranked / most, shown: count(trace.n_ranked) }));
  rows.push(...bar("page", { length: trace.n_slate / most, shown: count(trace.n_slate) }));
  return [
    el("h3", {}, "Sources"), el("div", { class: "bars sources" }, ...sources),
    el("h3", {}, "Funnel"), el("div", { class: "bars funnel" }, ...rows),
  ];
}

function renderWaterfall(trace) {
  const total = Math.max(trace.total_ms, 1e-9);
  const rows = trace.components.filter((c) => c.took_ms > 0).flatMap((c) => bar(spaced(c.component), {
    start: c.start_ms / total,
    length: c.took_ms / total,
    negative: !["ok", "disabled"].includes(c.fate),
    shown: `${c.took_ms.toFixed(2)} ms`,
    title: `${c.stage}: ${c.fate}`,
  }));
  return [el("h3", {}, "Time, component by component"), el("div", { class: "bars waterfall" }, ...rows)];
}

function renderParams(trace) {
  const names = Object.keys(trace.params).filter((name) => name in trace.param_levels);
  if (!names.length) return [el("p", { class: "small" }, "Every param has its default.")];
  const rows = names.map((name) =>
    el("tr", {}, el("td", {}, name), el("td", {}, `${trace.params[name]}`), el("td", {}, trace.param_levels[name] ?? "")));
  return [el("h3", {}, "Params that are not at their default"), el("table", { class: "steps" }, el("tbody", {}, ...rows))];
}
