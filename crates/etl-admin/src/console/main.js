// The console: who signs in, which view is shown, and how often it looks again.

import * as api from "./api.js";
import { button, field, make, notice } from "./dom.js";
import { audit } from "./audit.js";
import { explain } from "./explain.js";
import { generations } from "./generations.js";
import { health } from "./health.js";
import { letters } from "./letters.js";
import { modules } from "./modules.js";
import { pipelines } from "./pipelines.js";

/** So often a view that is live looks again, in milliseconds. */
const REFRESH = 2000;

/** Each view: its name, whether it is offered, and what makes it. A view answers what brings it up to date, if anything does. */
const VIEWS = {
  pipelines: { title: "Pipelines", make: pipelines },
  explain: { title: "Explain", make: explain },
  modules: { title: "Modules", make: modules },
  letters: { title: "Dead letters", make: letters },
  generations: { title: "Generations", make: generations, isOffered: () => api.seesAll() },
  audit: { title: "Audit", make: audit, isOffered: () => api.may("admin") && api.seesAll() },
  health: { title: "Health", make: health },
};

const main = document.getElementById("main");
let shown = 0;

function offered() {
  return Object.entries(VIEWS).filter(([, view]) => view.isOffered?.() ?? true);
}

async function show() {
  if (!api.session) return;
  const name = location.hash.replace(/^#\/?/, "").split("?")[0];
  const views = offered();
  const [id, view] = views.find(([id]) => id === name) ?? views[0];
  document.title = `${view.title} – etl console`;
  document.getElementById("nav").replaceChildren(...views.map(([other, { title }]) =>
    make("a", { href: `#/${other}`, "aria-current": other === id ? "page" : undefined }, title)));
  notice("");
  const turn = ++shown;
  const place = make("div");
  main.replaceChildren(make("h1", {}, view.title), place);
  main.focus({ preventScroll: true });
  const isShown = () => turn === shown && api.session;
  let refresh;
  let lost = "";
  while (isShown()) {
    try {
      // A tab that nobody looks at asks nothing.
      if (!refresh) refresh = (await view.make(place)) ?? null;
      else if (!document.hidden) await refresh();
      if (lost && isShown() && document.getElementById("notice").textContent === lost) notice("");
      lost = "";
    } catch (error) {
      if (!isShown()) return;
      notice(error.message, true);
      // An engine that is away comes back; what is refused stays so.
      if (!refresh && error instanceof api.Refused && error.status < 500) return;
      lost = error.message;
      if (!refresh) place.replaceChildren();
    }
    if (refresh === null) return;
    await new Promise((resolve) => setTimeout(resolve, REFRESH));
  }
}

function askForToken(reason) {
  shown += 1;
  document.getElementById("top").hidden = true;
  document.title = "Sign in – etl console";
  const token = make("input", { type: "password", autocomplete: "off", required: true, id: "token", class: "mono" });
  const said = make("p", { class: "bad", role: "alert" }, reason);
  const form = make("form", { class: "card sign-in" },
    make("h1", {}, "Sign in"),
    field("Token", token, { class: "wide" }),
    make("p", { class: "quiet" }, "As ", make("code", {}, "etl admin token create"), " printed it. It is kept until this tab is closed."),
    said,
    make("button", { class: "main", type: "submit" }, "Sign in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await api.signIn(token.value.trim());
      begin();
    } catch (error) {
      said.textContent = error.message;
      token.select();
    }
  });
  main.replaceChildren(form);
  notice("");
  token.focus();
}

function begin() {
  const { name, role, pipelines: confined } = api.session;
  const scope = confined.length ? `, ${confined.join(" ")}` : "";
  document.getElementById("who").textContent = `${name} (${role}${scope})`;
  document.getElementById("top").hidden = false;
  show();
}

api.whenSignedOut(askForToken);
addEventListener("hashchange", show);
document.getElementById("sign-out").replaceWith(button("Sign out", () => api.signOut(), { id: "sign-out" }));
api.goOn().then((isKnown) => (isKnown ? begin() : askForToken("")), (error) => askForToken(error.message));
