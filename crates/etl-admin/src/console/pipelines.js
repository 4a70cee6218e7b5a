// Pipelines, drawn as their stages and modules, with what flows through them now.
//
// However many there are, only as many are drawn as somebody has scrolled to, and only those are kept up to date.

import { ask, change, get, getStatistics, may } from "./api.js";
import { button, confirmed, field, figures, make, select } from "./dom.js";
import { bytes, count, pretty, rate, time } from "./format.js";

/** So many are drawn at a time. */
const PAGE = 40;

export async function pipelines(place) {
  let [list, now, before] = [{ generation: -1, pipelines: [] }, null, null];
  const drawn = new Map();
  let matching = [];
  let limit = PAGE;

  const filter = make("input", { type: "search", oninput: () => restart() });
  const state = select([["all", "All"], ["failing", "With failures"], ["busy", "With records"], ["disabled", "Disabled"]], { onchange: () => restart() });
  const totals = make("div");
  const tally = make("p", { class: "quiet", role: "status" });
  const cards = make("div", { id: "pipelines" });
  const more = button("Show more", () => grow(), { hidden: true });
  place.append(totals,
    make("div", { class: "row" }, field("Name, id or module", filter), field("Show", state)),
    tally, cards, more);
  new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && grow()).observe(more);

  const figuresOf = (id) => now?.pipelines[id];
  const isMeant = (pipeline) => {
    const words = filter.value.trim().toLowerCase();
    const text = [pipeline.id, pipeline.name, ...pipeline.modules].join("\n").toLowerCase();
    const totals = figuresOf(pipeline.id);
    return text.includes(words) && {
      all: true,
      failing: totals && totals.stopped + totals.dead_lettered + totals.skipped > 0,
      busy: totals && totals.records_in > 0,
      disabled: !pipeline.enabled,
    }[state.value];
  };

  function restart() {
    limit = PAGE;
    matching = list.pipelines.filter(isMeant);
    draw();
  }

  function grow() {
    if (limit >= matching.length) return;
    limit += PAGE;
    draw();
  }

  function draw() {
    const visible = matching.slice(0, limit);
    const wanted = new Set(visible.map((pipeline) => pipeline.id));
    for (const id of [...drawn.keys()]) {
      if (!wanted.has(id)) drawn.delete(id);
    }
    for (const pipeline of visible) {
      const known = drawn.get(pipeline.id);
      if (known?.generation !== list.generation) drawn.set(pipeline.id, card(pipeline, list.generation, refresh));
    }
    const elements = visible.map((pipeline) => drawn.get(pipeline.id).element);
    const isSame = elements.length === cards.children.length && elements.every((element, index) => cards.children[index] === element);
    if (!isSame) cards.replaceChildren(...elements);
    more.hidden = limit >= matching.length;
    tally.textContent = `${count(matching.length)} of ${count(list.pipelines.length)} pipelines`;
    fill();
  }

  function fill() {
    if (!now) return;
    const seconds = before ? (now.time_unix_ms - before.time_unix_ms) / 1000 : 0;
    totals.replaceChildren(figures([
      ["in", rate(now.records_in, before?.records_in, seconds)],
      ["out", rate(now.records_out, before?.records_out, seconds)],
      ["records in", count(now.records_in)],
      ["dead letters", count(now.dead_lettered), now.dead_lettered ? "bad" : ""],
      ["in flight", count(now.in_flight_records)],
      ["instances", `${count(now.instances)}, ${bytes(now.instance_memory_bytes)}`],
      ["memory", bytes(now.process_memory_bytes)],
      ["lanes", count(now.lanes)],
      ["state", now.state, now.state === "ok" ? "good" : "bad"],
      ["generation", count(now.generation)],
    ]));
    for (const [id, { fill }] of drawn) fill(now, before, seconds, id);
  }

  async function refresh() {
    [before, now] = [now, await getStatistics()];
    if (now.generation !== list.generation) {
      list = await get("pipelines");
      matching = list.pipelines.filter(isMeant);
      draw();
    } else if (state.value === "all") {
      fill();
    } else {
      matching = list.pipelines.filter(isMeant);
      draw();
    }
  }

  await refresh();
  return refresh;
}

/** One pipeline; answers its element and what fills in its figures. */
function card(pipeline, generation, refresh) {
  const summary = make("div");
  const places = new Map();
  const stages = make("ol", { class: "stages" }, pipeline.stages.map((stage) => {
    const timing = make("span");
    places.set(stage.priority, timing);
    return make("li", {},
      make("div", { class: "title" }, `priority ${stage.priority}${stage.parallel ? ", parallel" : ""} `, timing),
      make("ul", { class: stage.parallel ? "parallel" : "" }, stage.modules.map((id) => {
        const figures = make("span", { class: "quiet number" });
        places.set(`module ${id}`, [...(places.get(`module ${id}`) ?? []), figures]);
        return make("li", {}, make("strong", {}, id), " ", figures);
      })));
  }));
  const written = make("div");
  const actions = make("div", { class: "row" }, button("Document", () => show(written, pipeline.id)));
  if (may("operator")) {
    const [verb, path] = pipeline.enabled ? ["Disable", "disable"] : ["Enable", "enable"];
    actions.append(button(verb, async () => {
      const text = pipeline.enabled ? "Records will pass it by, from the next one on." : "Records will go through it, from the next one on.";
      const isMeant = await confirmed(`${verb} ${pipeline.id}?`, text, verb);
      if (isMeant && await change("POST", `pipelines/${encodeURIComponent(pipeline.id)}/${path}`, { generation })) await refresh();
    }));
  }
  const element = make("article", { class: "card", "data-pipeline": pipeline.id },
    make("header", {},
      make("h2", {}, pipeline.id),
      pipeline.name === pipeline.id ? null : make("span", { class: "quiet" }, pipeline.name),
      pipeline.enabled ? null : make("span", { class: "badge warn" }, "disabled"),
      actions),
    summary, stages, written);

  function fill(now, before, seconds, id) {
    const [own, was] = [now.pipelines[id], before?.pipelines[id]];
    if (!own) return;
    const failures = Object.entries(own.dead_letters_by_kind).map(([kind, number]) => `${kind} ${count(number)}`);
    summary.replaceChildren(figures([
      ["in", rate(own.records_in, was?.records_in, seconds)],
      ["out", rate(own.records_out, was?.records_out, seconds)],
      ["records in", count(own.records_in)],
      ["dropped", count(own.dropped)],
      ["undone", count(own.stopped), own.stopped ? "bad" : ""],
      ["dead letters", failures.length ? failures.join(", ") : count(own.dead_lettered), own.dead_lettered ? "bad" : ""],
      ["half take", time(own.p50_seconds)],
      ["99 % take", time(own.p99_seconds)],
    ]));
    for (const stage of own.stages) {
      const timing = places.get(stage.priority);
      if (timing) timing.textContent = stage.timed ? `99 % ${time(stage.p99_seconds)}` : "";
    }
    for (const name of new Set(pipeline.modules)) {
      const [module, earlier] = [now.modules[name], before?.modules[name]];
      if (!module) continue;
      const circuit = now.circuits.find((circuit) => circuit.pipeline === id && circuit.module === name && circuit.state !== "Closed");
      const words = [rate(module.records_in, earlier?.records_in, seconds), `99 % ${time(module.p99_seconds)}`];
      if (module.failed) words.push(`${count(module.failed)} failed`);
      if (circuit) words.push(`circuit ${circuit.state}`);
      for (const place of places.get(`module ${name}`) ?? []) {
        place.textContent = words.join(" · ");
        place.className = `number ${module.failed || circuit ? "bad" : "quiet"}`;
      }
    }
  }
  return { element, fill, generation };
}

/** Shows a pipeline's document, or hides it again. */
async function show(place, id) {
  if (place.children.length) return place.replaceChildren();
  const { pipeline } = await ask("GET", `pipelines/${encodeURIComponent(id)}`);
  place.replaceChildren(make("pre", { tabIndex: 0 }, pretty(pipeline)));
}
