// The only file that calls the server: /v1 with the token of whoever looks, and what went wrong in one line.

// This file is .../console/<version>/api.js, with a stage in front or not.
export const ROOT = new URL("../../", import.meta.url);
const KEPT = "sallyport-token";
let token = sessionStorage.getItem(KEPT) ?? "";

export const signedIn = () => token !== "";

// In memory; with `keep` also until the tab is closed.
export function signIn(text, keep) {
  token = text;
  if (keep) sessionStorage.setItem(KEPT, text);
  else sessionStorage.removeItem(KEPT);
}

export const signOut = () => signIn("", false);

// A number that JavaScript would round, as it was written.
export class Exact {
  constructor(text) { this.text = text; }
  toString() { return this.text; }
  valueOf() { return Number(this.text); }
}

// JSON as JSON.parse reads it, but no number loses a digit. Throws SyntaxError.
export function read(text) {
  const tokens = /\s*(?:([{}[\],:])|("[^"\\]*(?:\\.[^"\\]*)*")|(-?\d[\d.eE+-]*)|(true|false|null))\s*/y;
  let found;
  const next = () => {
    found = tokens.exec(text);
    if (!found) throw new SyntaxError("not JSON");
  };
  const punctuation = (wanted) => {
    if (found[1] !== wanted) throw new SyntaxError("not JSON");
  };
  const list = (end, item) => {
    next();
    if (found[1] === end) return;
    for (;;) {
      item();
      next();
      if (found[1] === end) return;
      punctuation(",");
      next();
    }
  };
  const value = () => {
    if (found[3]) {
      const number = JSON.parse(found[3]);
      return String(number) === found[3] ? number : new Exact(found[3]);
    }
    if (found[1] === "[") {
      const items = [];
      list("]", () => items.push(value()));
      return items;
    }
    if (found[1] === "{") {
      const members = Object.create(null);
      list("}", () => {
        if (!found[2]) throw new SyntaxError("not JSON");
        const name = JSON.parse(found[2]);
        next();
        punctuation(":");
        next();
        members[name] = value();
      });
      return members;
    }
    return JSON.parse(found[2] ?? found[4] ?? found[1]);
  };
  next();
  const whole = value();
  if (tokens.lastIndex !== text.length) throw new SyntaxError("not JSON");
  return whole;
}

// JSON for people, with every digit.
export function write(value, indent = "") {
  if (value instanceof Exact) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const deeper = `${indent}  `;
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const items = Array.isArray(value)
    ? value.map((item) => write(item, deeper))
    : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${write(item, deeper)}`);
  return items.length ? `${open}\n${items.map((item) => deeper + item).join(",\n")}\n${indent}${close}` : open + close;
}

// What went wrong. `message` is one line for people, `kind` that of the problem.
export class Problem extends Error {
  constructor(kind, message, members = {}) {
    super(message);
    this.kind = kind;
    this.members = members;
  }
}

const AWAY = "The server does not answer. Check that it runs and that you are online.";
export const BAD_TOKEN = "This token does not work: it is wrong, was revoked, or has expired. Operators issue tokens.";

function problemOf(response, text, path) {
  let members = {};
  try { members = read(text) ?? {}; } catch { /* it is not JSON, as it is said below */ }
  const kind = String(members.type ?? "").replace("urn:sallyport:problem:", "");
  const again = response.headers.get("Retry-After");
  const wait = again ? ` Again in ${again} s.` : "";
  const own = (response.headers.get("Content-Type") ?? "").includes("problem+json");
  if (!own && [403, 404].includes(response.status) && members.message)
    return new Problem("no-stage", `${ROOT.href} is not the API: the stage is missing from the address, such as /prod.`);
  if (!own) return new Problem("odd", `Something that is not Sallyport answered at ${ROOT.href}v1 with ${response.status}.`);
  if (response.status === 401) return new Problem("unauthorized", BAD_TOKEN);
  if (response.status === 404 && /^v1\/[a-z]+(\/(export|verify|allowlist))?$/.test(path))
    return new Problem("old", `This server is older than the console: it has no /${path}. Load the page again.`);
  if (response.status === 503 && kind === "unavailable") return new Problem(kind, `The database is not there yet.${wait}`, members);
  return new Problem(kind, `${members.title ?? response.status}: ${members.detail ?? ""}${wait}`, members);
}

// The Response and its text. Throws Problem.
export async function fetched(method, path, { query, body, headers } = {}) {
  const url = new URL(path, ROOT);
  for (const [name, value] of Object.entries(query ?? {})) if (value) url.searchParams.append(name, value);
  const sent = { Authorization: `Bearer ${token}`, ...headers };
  if (body !== undefined) sent["Content-Type"] ??= "application/json";
  let response, text;
  try {
    response = await fetch(url, {
      method, headers: sent, body: typeof body === "object" ? JSON.stringify(body) : body,
      cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
    });
    text = await response.text();
  } catch {
    throw new Problem("away", AWAY);
  }
  if (!response.ok) throw problemOf(response, text, path);
  return { response, text };
}

// The answer's JSON. Of an act that waits for an approval, `proposal_id` says so. Throws Problem.
export async function call(method, path, options) {
  const { response, text } = await fetched(method, path, options);
  try {
    return read(text);
  } catch {
    const kind = response.headers.get("Content-Type");
    throw new Problem("odd", `Something that is not Sallyport answered at ${ROOT.href}v1 (${kind}).`);
  }
}

export const get = (path, query) => call("GET", path, { query });
export const post = (path, body, headers) => call("POST", path, { body, headers });
