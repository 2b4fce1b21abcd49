// The page: whose feed, which timeline, more as one scrolls, and what happens when a button is pressed.

import * as api from "/web/api.js";
import { attempt, makeCard } from "/web/card.js";
import { el } from "/web/dom.js";
import { showFlywheel } from "/web/flywheel.js";
import { Impressions } from "/web/impressions.js";
import { renderMade } from "/web/made.js";
import { showModelStatus } from "/web/model_status.js";
import { renderWhy } from "/web/why.js";
import { showWorldTime } from "/web/world_time.js";

const $ = (id) => document.getElementById(id);
const feed = $("feed");
const panel = $("panel");
const tabs = [...document.querySelectorAll("[data-timeline]")];
const impressions = new Impressions();
const end = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && more(), { rootMargin: "1200px" });
const liked = new Set(); // "viewer post": what was liked since the page was loaded; the API does not tell
const replies = new Map(); // those that failed: tried again as the same events, for they may have arrived

const state = { viewer: "", isNamed: false, timeline: "home", cursor: null, isEnd: false, isLoading: false, request: "", run: 0 };

async function start() {
  if (document.documentElement.dataset.mode !== "development") {
    if (api.tokenViewer()) comeIn();
    else leave("Paste your token to see your feed.");
    return;
  }
  try {
    showPicker(await api.viewers());
    showWorldTime($("world-time"), $("world-note"));
    showModelStatus($("model-status"));
  } catch (error) {
    complain(error);
    setTimeout(start, 2000);
  }
}

function takeToken(text) {
  clear(); // what was seen is told under the token that it was seen with
  const isKey = api.isKey(text);
  api.setToken(isKey ? "" : text); // a key opens everybody's feed: this page does not keep one
  if (api.tokenViewer()) comeIn();
  else leave(isKey
    ? "That is an API key, not a viewer's token. A feed is read with a token: `millrace token VIEWER` makes one."
    : "That is not a viewer's token: one has three parts with dots between them.", true);
}

function comeIn() {
  $("token-form").hidden = true;
  $("whose").textContent = `Feed of ${api.tokenViewer()}`;
  $("whose").hidden = $("leave").hidden = $("refresh").hidden = $("how").hidden = false;
  enter(api.tokenViewer());
}

/** Out: the token is dropped, and another one can be pasted. */
function leave(text, isBad = false) {
  clear();
  api.setToken("");
  state.viewer = "";
  $("token-form").hidden = false;
  $("whose").hidden = $("leave").hidden = $("refresh").hidden = $("how").hidden = true;
  say(text, isBad);
}

function clear() {
  impressions.close();
  Object.assign(state, { cursor: null, isEnd: false, isLoading: false, request: "", run: state.run + 1 });
  $("how").disabled = true;
  feed.replaceChildren();
}

function showPicker(found) {
  const picker = $("viewer");
  state.isNamed = true;
  $("flywheel").hidden = $("mode").hidden = picker.hidden = $("viewer-label").hidden = false;
  picker.replaceChildren(...found.map((v) =>
    el("option", { value: v.user_id }, `${v.name || v.user_id} · follows ${v.n_following}`)));
  const wanted = new URLSearchParams(location.search).get("viewer");
  if (wanted && !found.some((v) => v.user_id === wanted)) picker.prepend(el("option", { value: wanted }, wanted));
  if (wanted) picker.value = wanted;
  if (!picker.value) {
    say("Nobody is known here yet: take events in, or run `millrace demo`.");
    return;
  }
  enter(picker.value);
}

function enter(viewer) {
  state.viewer = viewer;
  keepAddress();
  reload();
}

/** What a reload opens again: whose feed and which timeline. */
function keepAddress() {
  const query = new URLSearchParams(location.search);
  if (state.isNamed) query.set("viewer", state.viewer);
  query.delete("timeline");
  if (state.timeline !== "home") query.set("timeline", state.timeline);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

function choose(timeline) {
  state.timeline = timeline;
  for (const tab of tabs) tab.setAttribute("aria-selected", String(tab.dataset.timeline === timeline));
}

/** A new first page. What is on its way for the page before is not used. */
function reload() {
  if (!state.viewer) return;
  clear();
  scrollTo(0, 0);
  more();
}

async function more() {
  if (state.isLoading || state.isEnd || !state.viewer) return;
  const run = state.run;
  let isDone = false;
  state.isLoading = true;
  say("…");
  try {
    const page = await api.timeline(state.timeline, { viewer: state.isNamed ? state.viewer : "", cursor: state.cursor });
    if (run !== state.run) return;
    state.request = page.request_id;
    state.cursor = page.cursor;
    state.isEnd = page.end_of_feed || !page.cursor;
    $("how").disabled = false;
    page.posts.forEach((post, position) => show(post, page.request_id, position));
    say(state.isEnd ? (feed.childElementCount ? "That is all for now." : "Nothing to show yet.") : "");
    isDone = true;
  } catch (error) {
    if (run !== state.run) return;
    if (error.status === 503) {
      say("The server is catching up …");
      setTimeout(more, 700);
    } else if (error.status === 401 && !state.isNamed) {
      leave(api.worded(error), true); // expired, withdrawn, or of another server
    } else complain(error);
  } finally {
    if (run === state.run) state.isLoading = false;
  }
  // Is the end still near? Observing anew tells in any case; else only a change would be told, and the feed could stall.
  if (run === state.run && !state.isEnd && state.cursor && isDone) {
    end.unobserve($("more"));
    end.observe($("more"));
  }
}

function show(post, request, position) {
  const context = { surface: state.timeline };
  const about = { viewer_id: state.viewer, post_id: post.post_id, request_id: request, position, context };
  const isLiked = liked.has(`${state.viewer} ${post.post_id}`);
  const card = makeCard(post, (what, ...more) => act(what, { ...about }, ...more), { isLiked });
  feed.append(card);
  impressions.watch(card, { type: "Impression", ...about });
}

/** Do it; the card tells where it fails. */
async function act(what, about, post, card, text) {
  const engage = (action, isUndo = false) => ({ type: "Engagement", ...about, action, ...(isUndo ? { is_undo: true } : {}) });
  const key = `${state.viewer} ${post.post_id}`;
  if (what === "why") await openWhy(about.request_id, post);
  else if (what === "like") {
    await api.send([engage("like")]);
    liked.add(key);
  } else if (what === "unlike") {
    await api.send([engage("like", true)]);
    liked.delete(key);
  } else if (what === "hide") {
    await api.send([engage("not_interested")]);
    replace(card, "Hidden. You will see less like this.", async (note) => {
      await api.send([engage("not_interested", true)]);
      note.replaceWith(card);
      card.querySelector("[data-act=hide]").focus();
    });
  } else if (what === "mute") {
    await api.send([{ type: "MuteChanged", muter_id: state.viewer, muted_id: post.author.user_id }, engage("mute_author")]);
    for (const other of [...feed.querySelectorAll(".card")]) {
      if (other.dataset.author === post.author.user_id && other !== card) remove(other);
    }
    replace(card, `${post.author.name} is muted.`, async (note) => {
      await api.send([{ type: "MuteChanged", muter_id: state.viewer, muted_id: post.author.user_id, is_muted: false }, engage("mute_author", true)]);
      note.replaceChildren(`${post.author.name} is not muted any more.`);
    });
  } else if (what === "reply") {
    const reply = `${key} ${text}`;
    if (!replies.has(reply)) {
      replies.set(reply, [{
        type: "PostCreated", post_id: `page-${crypto.randomUUID()}`, author_id: state.viewer, kind: "reply", text,
        parent_id: post.post_id, parent_author_id: post.author.user_id,
      }, engage("reply")].map(api.event));
    }
    await api.sendEvents(replies.get(reply));
    replies.delete(reply);
    card.querySelector(".acts").after(el("p", { class: "small" }, "Your reply is out."));
  }
}

function remove(card) {
  impressions.drop(card);
  card.remove();
}

function replace(card, text, undo) {
  impressions.drop(card);
  const note = el("div", { class: "note" }, text);
  note.append(" ", el("button", { click: () => attempt(note, undo(note)) }, "Undo"));
  card.replaceWith(note);
}

async function openWhy(request, post) {
  openPanel("Why this post?", el("p", {}, "…"));
  try {
    openPanel("Why this post?", renderWhy(await api.why(request, post.post_id)));
  } catch (error) {
    openPanel("Why this post?", el("p", {}, api.worded(error)));
  }
}

async function openMade() {
  openPanel("How this page was made", el("p", {}, "…"));
  try {
    openPanel("How this page was made", renderMade(await api.trace(state.request)));
  } catch (error) {
    openPanel("How this page was made", el("p", {}, api.worded(error)));
  }
}

function openFlywheel() {
  const body = el("div", {}, el("p", {}, "…"));
  openPanel("Flywheel", body);
  showFlywheel(body, () => panel.open && body.isConnected);
}

function openPanel(title, body) {
  $("panel-title").textContent = title;
  $("panel-body").replaceChildren(body);
  if (!panel.open) panel.showModal();
}

function say(text, isBad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", isBad);
}

const complain = (error) => say(api.worded(error), true);

$("viewer").addEventListener("change", (event) => enter(event.target.value));
$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  takeToken($("token").value);
  $("token").value = "";
});
$("leave").addEventListener("click", () => {
  leave("Paste your token to see your feed.");
  $("token").focus();
});
$("refresh").addEventListener("click", reload);
$("flywheel").addEventListener("click", openFlywheel);
$("how").addEventListener("click", openMade);
$("panel-close").addEventListener("click", () => panel.close());
panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
for (const tab of tabs) {
  tab.addEventListener("click", () => {
    choose(tab.dataset.timeline);
    keepAddress();
    reload();
  });
}
const wantedTimeline = new URLSearchParams(location.search).get("timeline");
if (tabs.some((tab) => tab.dataset.timeline === wantedTimeline)) choose(wantedTimeline);
end.observe($("more"));
start();
