// One quiet line below the header: which models serve, and how far a training is.

import * as api from "/web/api.js";

const WHILE_TRAINING_MS = 3000;
const ELSE_MS = 20000;

/** Kept true in `node` for as long as the page is open. */
export async function showModelStatus(node) {
  let isTraining = false;
  try {
    if (!document.hidden) {
      const told = await api.models();
      isTraining = Boolean(told.training);
      if (node.textContent !== told.words) node.textContent = told.words;
      node.hidden = false;
    }
  } catch {
    // The page itself says when the server does not answer.
  }
  setTimeout(showModelStatus, isTraining ? WHILE_TRAINING_MS : ELSE_MS, node);
}
