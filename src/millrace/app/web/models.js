// Who did what a learned model does: the model with its version, or who stood in for it and why.

import { el } from "/web/dom.js";

const ROLES = {
  towers: { title: "towers", did: "Looked for by", nobody: "Nobody looked for it" },
  pre_ranker: { title: "learned pre-ranker", did: "Pre-ranked by", nobody: "Nothing was cut" },
  ranker: { title: "learned ranker", did: "Predicted by", nobody: "Nobody predicted" },
};

/** The chips of `models` in a trace or a why; nothing where a page is made without any. */
export function renderModels(models) {
  if (!models?.length) return [];
  const lines = models.map((model) => {
    const { title, did, nobody } = ROLES[model.role];
    const who = model.by === "model" ? `${title} ${model.version ?? ""}`.trim() : model.by;
    const said = model.by === "nobody" ? [nobody] : [model.by === "model" ? `${did} the ` : `${did} `, el("span", { class: "chip" }, who)];
    return el("p", { class: "who-did", "data-role": model.role }, ...said, model.reason ? `: ${model.reason}` : "");
  });
  return [el("h3", {}, "By which models"), ...lines];
}
