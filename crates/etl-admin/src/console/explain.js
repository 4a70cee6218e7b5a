// Why a topic takes which path, and what each step makes of a record.

import { ask, get, may, seesAll } from "./api.js";
import { field, make, notice } from "./dom.js";
import { difference, pretty } from "./format.js";

export function explain(place) {
  const withRecord = may("operator") && seesAll();
  const topic = make("input", { required: !withRecord, class: "mono", id: "explain-topic" });
  const record = make("textarea", { rows: 6, class: "mono", id: "explain-record" });
  const answer = make("div", { id: "explained" });
  const form = make("form", {},
    make("div", { class: "row" }, field("Topic", topic), make("button", { class: "main", type: "submit" }, "Explain")),
    withRecord ? field("Record (a record line, or the JSON of a value); nothing goes out", record, { class: "wide" }) : null,
    answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    answer.replaceChildren();
    notice("");
    try {
      const text = record.value.trim();
      const explained = text
        ? await ask("POST", "explain", { body: line(text, topic.value), kind: "application/json" })
        : await get("explain", { topic: topic.value });
      answer.append(...(explained.steps ? [steps(explained)] : []), ...paths(explained));
    } catch (error) {
      notice(error.message, true);
    }
  });
  place.append(form);
}

/** The text as it is where it is a record line, so that its numbers keep their digits; else as the value of one. */
function line(text, topic) {
  const value = JSON.parse(text);
  const isLine = value !== null && typeof value === "object" && typeof value.topic === "string";
  return isLine ? text : `{"topic":${JSON.stringify(topic)},"value":${text}}`;
}

function paths(explained) {
  const nothing = make("p", { class: "quiet" }, "No pipelines.");
  const shown = explained.pipelines.map((pipeline) => make("article", { class: "card" },
    make("header", {},
      make("h2", {}, pipeline.id),
      make("span", { class: `badge ${pipeline.selected ? "good" : "quiet"}` },
        pipeline.enabled === false ? "disabled" : pipeline.selected ? "selected" : "not selected")),
    make("ol", { class: "stages" }, (pipeline.stages ?? []).map((stage) => make("li", {},
      make("div", { class: "title" }, `priority ${stage.priority}${stage.parallel ? ", parallel" : ""}`),
      make("ul", {}, stage.modules.map((module) => make("li", { class: module.selected ? "good" : "quiet" },
        `${module.selected ? "✓" : "✗"} ${module.id}: ${module.reason}`,
        module.conditions.map((condition) => make("div", { class: "quiet" }, `if ${condition}`))))))))));
  return [make("h2", {}, "Which modules see the topic"), ...(shown.length ? shown : [nothing])];
}

function steps({ record, steps, outputs, dead_letters: letters }) {
  const list = steps.map((step, index) => {
    const [before, after] = [pretty(step.before), pretty(step.after)];
    return make("article", { class: "card step" },
      make("header", {},
        make("h3", {}, `Step ${index + 1}: ${step.pipeline}, priority ${step.priority}, ${step.module}`),
        make("span", { class: `badge ${step.happened === "failed" ? "bad" : "quiet"}` }, step.happened.replace("_", " "))),
      step.reason ? make("p", {}, step.reason) : null,
      before === after ? null : pair(before, after));
  });
  return make("section", {},
    make("h2", {}, "What becomes of the record"),
    make("pre", { tabIndex: 0 }, pretty(record)),
    list.length ? list : make("p", { class: "quiet" }, "No module sees it."),
    make("h3", {}, `Out: ${outputs.length}`),
    outputs.map((output) => make("pre", { tabIndex: 0 }, pretty(output))),
    letters.length ? make("h3", { class: "bad" }, `Dead letters: ${letters.length}`) : null,
    letters.map((letter) => make("pre", { tabIndex: 0 }, pretty(letter))));
}

/** Before and after, with the lines that only one of them has. */
export function pair(before, after) {
  const [left, right] = difference(before, after);
  const shown = (name, lines, kind) => make("div", {}, make("div", { class: "quiet" }, name),
    make("pre", { tabIndex: 0 }, lines.map(([line, isOwn]) => make("span", { class: isOwn ? kind : "" }, `${line}\n`))));
  return make("div", { class: "pair" }, shown("before", left, "removed"), shown("after", right, "added"));
}
