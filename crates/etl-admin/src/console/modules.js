// Modules: their versions, how a new one does, and the ways on and back.

import { change, get, getStatistics, may } from "./api.js";
import { button, confirmed, field, figures, make, notice, select } from "./dom.js";
import { bytes, count, short, time } from "./format.js";

/** So many are drawn at a time. */
const PAGE = 60;

export async function modules(place) {
  let list = { generation: -1, modules: [] };
  let limit = PAGE;
  const cards = make("div");
  const filter = make("input", { type: "search", oninput: () => draw() });
  const more = button("Show more", () => {
    limit += PAGE;
    draw();
  }, { hidden: true });
  place.append(make("div", { class: "row" }, field("Id or pipeline", filter)), cards, more);
  if (may("admin")) place.prepend(upload(() => list.generation, refresh));
  let fills = [];

  function draw() {
    const words = filter.value.trim().toLowerCase();
    const meant = list.modules.filter((module) => [module.id, ...module.used_by].join("\n").toLowerCase().includes(words));
    const drawn = meant.slice(0, limit).map((module) => card(module, list.generation, refresh));
    fills = drawn.map(({ fill }) => fill);
    cards.replaceChildren(...drawn.map(({ element }) => element));
    more.hidden = limit >= meant.length;
  }

  async function refresh() {
    const [statistics, modules] = await Promise.all([getStatistics(), get("modules")]);
    // Whoever is typing into a card is not disturbed unless there is something new.
    const isSame = JSON.stringify(modules) === JSON.stringify(list);
    list = modules;
    if (!isSame) draw();
    for (const fill of fills) fill(statistics);
  }
  await refresh();
  return refresh;
}

function card(module, generation, refresh) {
  const summary = make("div");
  const path = `modules/${encodeURIComponent(module.id)}`;
  const element = make("article", { class: "card", "data-module": module.id },
    make("header", {},
      make("h2", {}, module.id),
      make("code", { title: module.sha256 ?? "" }, short(module.sha256)),
      make("span", { class: "quiet" }, module.file)),
    make("p", { class: "quiet" }, module.used_by.length ? `used by ${module.used_by.slice(0, 20).join(", ")}${module.used_by.length > 20 ? ` and ${module.used_by.length - 20} more` : ""}` : "used by no pipeline"),
    summary,
    module.trials.map((trial) => trialOf(module, trial, path, generation, refresh)));
  const fill = (statistics) => {
    const own = statistics.modules[module.id];
    if (!own) return;
    const errors = Object.entries(own.errors_by_kind).map(([kind, number]) => `${kind} ${count(number)}`);
    summary.replaceChildren(figures([
      ["kept", count(own.kept)],
      ["changed", count(own.changed)],
      ["dropped", count(own.dropped)],
      ["failed", errors.length ? errors.join(", ") : "0", own.failed ? "bad" : ""],
      ["99 % take", time(own.p99_seconds)],
      ["instances", `${count(own.instances)} of ${count(own.instances_allowed)}`],
      ["memory", bytes(own.memory_bytes)],
    ]));
  };
  return { element, fill };
}

function trialOf(module, trial, path, generation, refresh) {
  const part = ({ records, failed }) => `${count(records)} records, ${count(failed)} failed`;
  const pairs = [
    ["present version", `${short(trial.stable_sha256)}: ${part(trial.stable)}`],
    ["new version", `${short(trial.canary_sha256)}: ${part(trial.canary)}`, trial.canary.failed ? "bad" : ""],
  ];
  if (trial.mode === "shadow") pairs.push(["answered differently", count(trial.different), trial.different ? "warn" : ""], ["not shown", count(trial.skipped)]);
  const state = trial.running ? `On trial: ${trial.mode}, ${trial.percent} %` : "Rolled back";
  const actions = make("div", { class: "row tight" });
  if (trial.running && may("operator")) {
    const percent = make("input", { type: "number", min: 1, max: 100, value: trial.percent });
    const mode = select(["canary", "shadow"]);
    mode.value = trial.mode;
    const decide = (verb, target, text) => button(verb, async () => {
      const isMeant = await confirmed(`${verb} the new version of ${module.id}?`, text, verb);
      if (isMeant && await change("POST", `${path}/${target}`, { generation })) await refresh();
    });
    actions.append(
      field("Records in hundredths", percent), field("Mode", mode),
      button("Apply", async () => {
        const body = JSON.stringify({ percent: Number(percent.value), mode: mode.value });
        if (await change("PATCH", `${path}/canary`, { body, kind: "application/json", generation })) await refresh();
      }),
      decide("Promote", "promote", "The new version becomes the module, for every record."),
      decide("Roll back", "rollback", "The new version is gone; the present one sees every record again."));
  }
  return make("section", {}, make("h3", {}, state), figures(pairs), actions);
}

/** A module, or a new version of one, out of a file. */
function upload(generation, refresh) {
  const id = make("input", { required: true });
  const file = make("input", { type: "file", accept: ".wasm,application/wasm", required: true });
  const how = select([["canary", "on trial: takes a part of the records"], ["shadow", "on trial: is only compared"], ["replace", "in place of the present one, at once"]]);
  const percent = make("input", { type: "number", min: 1, max: 100, value: 10 });
  const form = make("form", {},
    make("div", { class: "row" }, field("Module", id), field("File", file), field("How", how), field("Records in hundredths", percent),
      make("button", { type: "submit" }, "Upload")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const isTrial = how.value !== "replace";
    const [name, chosen] = [id.value.trim(), file.files[0]];
    const words = `${chosen.name}, ${bytes(chosen.size)}, becomes ${isTrial ? "a new version of" : "the module"} ${name}.`;
    if (!await confirmed("Upload?", words, "Upload")) return;
    notice("Uploading…");
    const query = isTrial ? { mode: how.value, percent: percent.value } : {};
    const path = `modules/${encodeURIComponent(name)}${isTrial ? "/canary" : ""}`;
    const options = { body: await chosen.arrayBuffer(), kind: "application/wasm", query, generation: generation() };
    if (await change("PUT", path, options)) {
      form.reset();
      await refresh();
    }
  });
  return make("details", {}, make("summary", {}, "Upload a module"), form);
}
