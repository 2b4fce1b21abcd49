// The HTTP API, as the page uses it: one place that knows addresses, the token and how errors look.

// Event time, which need not be this machine's time and may run faster: every answer of the server tells it anew.
let aheadMs = 0;

/** Event time, in epoch milliseconds. */
export const now = () => Date.now() + aheadMs;

let token = sessionStorage.getItem("millrace-token") || "";

export class ApiError extends Error {
  constructor(status, message, remedy) {
    super(message);
    this.status = status;
    this.remedy = remedy;
  }
}

/** What went wrong and what to do, in one line. */
export const worded = (error) => [error.message, error.remedy].filter(Boolean).join("; ");

export function setToken(value) {
  token = value.trim();
  if (token) sessionStorage.setItem("millrace-token", token);
  else sessionStorage.removeItem("millrace-token");
}

/** Whether what was pasted is an API key, which belongs to a program or an operator and has no feed of its own. */
export const isKey = (text) => /^mr_[a-z]+_/.test(text.trim());

/** Who the token names: the page shows it, the server checks it. Empty where it is no token. */
export function tokenViewer() {
  try {
    const body = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(body), (c) => c.charCodeAt(0));
    return String(JSON.parse(new TextDecoder().decode(bytes)).sub ?? "");
  } catch {
    return "";
  }
}

async function call(path, { body, keepalive = false, headers = {} } = {}) {
  if (token) headers.Authorization = `Bearer ${token}`;
  const options = { headers, keepalive, cache: "no-store" };
  if (body !== undefined) {
    options.method = "POST";
    options.body = JSON.stringify(body);
    headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new ApiError(0, "The server does not answer", "is it running?");
  }
  const told = Number(answer.headers.get("X-Millrace-Now"));
  if (told) aheadMs = told - Date.now();
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw new ApiError(answer.status, data.error?.message ?? `HTTP ${answer.status}`, data.error?.remedy ?? "");
  }
  return data;
}

/** Event time as the server tells it now, and whether it is virtual; also while the server is not ready. */
export async function time() {
  const answer = await fetch("/readyz", { cache: "no-store" });
  const told = await answer.json();
  return { ms: told.now_ms, isVirtual: told.is_time_virtual };
}

export const models = () => call("/api/v1/models");

export const flywheel = () => call("/api/v1/flywheel");

export const viewers = () => call("/api/v1/viewers?limit=100");

export function timeline(name, { viewer, cursor }) {
  const query = new URLSearchParams();
  if (viewer) query.set("viewer", viewer);
  if (cursor) query.set("cursor", cursor);
  return call(`/api/v1/timeline/${name}?${query}`);
}

export const trace = (request) => call(`/api/v1/requests/${encodeURIComponent(request)}`);

export const why = (request, post) =>
  call(`/api/v1/requests/${encodeURIComponent(request)}/why/${encodeURIComponent(post)}`);

/** An event that happens now. Its id is drawn here, once, so that sending the same event again is harmless. */
export const event = (payload) => ({
  event_id: `page-${crypto.randomUUID()}`, event_time_ms: now(), source: "page", payload,
});

export async function sendEvents(events, { keepalive = false } = {}) {
  const answer = await call("/api/v1/events", { body: events, keepalive });
  const refused = answer.results.find((result) => result.status === "refused");
  if (refused) throw new ApiError(422, refused.error, "");
  return answer;
}

export const send = (payloads, options) => sendEvents(payloads.map(event), options);
