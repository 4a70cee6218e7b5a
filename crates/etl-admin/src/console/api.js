// Asking the API, as whoever has signed in. The token is kept for this tab alone and goes with it.

import { notice } from "./dom.js";
import { parse } from "./format.js";

const KEY = "etl-token";
const ROLES = ["viewer", "operator", "admin"];

/** Who has signed in: `name`, `role`, `pipelines`; null where nobody has. */
export let session = null;
let onSignedOut = () => {};

/** An answer that is no success. */
export class Refused extends Error {
  constructor(status, problem) {
    const problems = (problem.problems ?? []).map((one) => `${one.path ? `${one.path}: ` : ""}${one.message}`);
    super([problem.detail ?? `HTTP ${status}`, ...problems].join("\n"));
    this.status = status;
  }
}

async function request(token, method, path, { query = {}, body, kind, generation, read = parse } = {}) {
  const url = new URL(`/api/v1/${path}`, location.origin);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const headers = { authorization: `Bearer ${token}` };
  if (kind) headers["content-type"] = kind;
  if (generation !== undefined) headers["if-match"] = `"${generation}"`;
  const response = await fetch(url, { method, headers, body, cache: "no-store", credentials: "omit" });
  const text = await response.text();
  let value = {};
  try {
    value = read(text);
  } catch {
    // What is refused before it is a request has no words.
  }
  if (!response.ok) throw new Refused(response.status, value);
  return value;
}

/** Asks; whoever is not known any more is signed out. */
export async function ask(method, path, options) {
  try {
    return await request(sessionStorage.getItem(KEY), method, path, options);
  } catch (error) {
    if (error instanceof Refused && error.status === 401) signOut(error.message);
    throw error;
  }
}

export const get = (path, query) => ask("GET", path, { query });

/** Figures are reckoned with, so they are numbers, however they are written. */
export const getStatistics = () => ask("GET", "statistics", { read: JSON.parse });

/** Makes a change and says what came of it. Answers whether it was made. */
export async function change(method, path, options = {}) {
  try {
    const made = await ask(method, path, options);
    const warnings = (made.warnings ?? []).map((warning) => `Warning: ${warning.message}`);
    notice([`Done: generation ${made.generation}.`, ...warnings].join("\n"));
    return true;
  } catch (error) {
    const hint = error.status === 412 ? "\nSomebody else made a change meanwhile: look again, then decide." : "";
    notice(error.message + hint, true);
    return false;
  }
}

/** Whether they may do what a role may. */
export function may(role) {
  return session !== null && ROLES.indexOf(session.role) >= ROLES.indexOf(role);
}

/** Whether they see all pipelines. */
export function seesAll() {
  return session !== null && session.pipelines.length === 0;
}

export async function signIn(token) {
  session = await request(token, "GET", "session");
  sessionStorage.setItem(KEY, token);
}

/** Goes on with the token of this tab, if there is one. */
export async function goOn() {
  const token = sessionStorage.getItem(KEY);
  if (token) await signIn(token);
  return session !== null;
}

export function signOut(reason = "") {
  sessionStorage.removeItem(KEY);
  session = null;
  onSignedOut(reason);
}

export function whenSignedOut(then) {
  onSignedOut = then;
}
