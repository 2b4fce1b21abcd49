// One post as a card: who, when, what, why in words, and what one can do with it.

import { now, worded } from "/web/api.js";
import { age, el, words } from "/web/dom.js";

const KINDS = { reply: "replied", repost: "reposted", quote: "quoted" };

/**
 * @param post a post of the API's answer
 * @param act called with (what, post, card, text?) where what is like, unlike, reply, hide, mute or why; returns a
 *   promise that is rejected where it could not be done
 */
export function makeCard(post, act, { isLiked = false } = {}) {
  const card = el("article", { class: "card", "data-post": post.post_id, "data-author": post.author.user_id });
  const isRepost = post.kind === "repost";
  card.append(
    el("p", { class: "reason" }, words("span", post.reason)),
    by(post.author, post.created_at_ms, KINDS[post.kind] ?? ""),
  );
  if (post.text) card.append(words("p", post.text, { class: "text", language: post.language }));
  card.append(...post.media.map(media));
  if (post.parent) card.append(parent(post.parent, isRepost ? post.language : ""));
  let isBusy = false;
  const like = el("button", { "data-act": "like", click: async () => {
    if (isBusy) return; // a like and its undo arrive in this order
    isBusy = true;
    show(!isLiked); // at once, and taken back where it fails
    if (await attempt(card, act(isLiked ? "unlike" : "like", post, card))) isLiked = !isLiked;
    else show(isLiked);
    isBusy = false;
  } });
  const show = (liked) => {
    like.setAttribute("aria-pressed", String(liked));
    like.textContent = liked ? "♥ Liked" : "♡ Like";
  };
  show(isLiked);
  card.append(el("div", { class: "acts" },
    like,
    el("button", { "data-act": "reply", click: () => toggleReply(card, post, act) }, "↩ Reply"),
    el("button", { "data-act": "hide", title: "Not interested in this post", click: () => attempt(card, act("hide", post, card)) }, "Hide"),
    el("button", { "data-act": "mute", title: `No posts by ${post.author.name} any more`, click: () => attempt(card, act("mute", post, card)) }, "Mute", el("span", { class: "wide" }, " author")),
    el("button", { "data-act": "why", class: "end", "aria-haspopup": "dialog", "aria-label": "Why this post?", click: () => act("why", post, card) }, "Why", el("span", { class: "wide" }, " this post"), "?"),
  ));
  return card;
}

/** Whether it could be done; where not, the card says why. */
export async function attempt(card, doing) {
  try {
    await doing;
    card.querySelector(".failed")?.remove();
    return true;
  } catch (error) {
    card.querySelector(".failed")?.remove();
    card.append(el("p", { class: "failed", role: "alert" }, `Not done. ${worded(error)}`));
    return false;
  }
}

function by(author, createdMs, said) {
  const face = el("div", { class: "face", "aria-hidden": "true" }, [...author.name.trim()][0] ?? "?");
  face.style.setProperty("--hue", String(hue(author.user_id)));
  return el("div", { class: "by" }, face, el("div", {},
    words("bdi", author.name, { class: "name" }), " ",
    el("span", { class: "kind" }, said), said ? " " : "",
    el("time", { class: "when", datetime: new Date(createdMs).toISOString() }, age(createdMs, now()))));
}

function parent(post, language) {
  return el("div", { class: "quoted" },
    el("div", {}, words("bdi", post.author.name, { class: "name" }), " ",
      el("time", { class: "when", datetime: new Date(post.created_at_ms).toISOString() }, age(post.created_at_ms, now()))),
    words("p", post.text, { class: "text", language }),
    ...(post.media ?? []).map(media));
}

function media(item) {
  const what = { image: "Picture", video: "Video", audio: "Sound" }[item.kind] ?? item.kind;
  const seconds = item.duration_ms ? `, ${Math.round(item.duration_ms / 1000)} s` : "";
  return el("div", { class: "media" },
    item.alt_text && words("span", item.alt_text),
    el("span", { class: item.alt_text ? "small" : null }, `${what}${seconds}`));
}

function toggleReply(card, post, act) {
  const open = card.querySelector(".reply-form");
  if (open) {
    open.remove();
    return;
  }
  const box = el("textarea", { rows: "2", maxlength: "2000", dir: "auto", "aria-label": `Your reply to ${post.author.name}`, required: true });
  const form = el("form", { class: "reply-form", submit: async (event) => {
    event.preventDefault();
    if (!box.value.trim() || box.readOnly) return;
    box.readOnly = true;
    if (await attempt(card, act("reply", post, card, box.value.trim()))) form.remove();
    box.readOnly = false;
  } }, box, el("button", { class: "quiet" }, "Reply"));
  card.querySelector(".acts").before(form);
  box.focus();
}

function hue(text) {
  let sum = 7;
  for (const char of text) sum = (sum * 31 + char.codePointAt(0)) % 360;
  return sum;
}
