// Dead letters: what is the matter with them, what they hold, and the way back.

import { ask, get, may } from "./api.js";
import { button, confirmed, field, make, notice, select, table } from "./dom.js";
import { bytes, count, date, pretty, short } from "./format.js";

const KINDS = ["", "Timeout", "Trap", "MemoryLimit", "InvalidOutput", "Module", "PoolExhausted", "CircuitOpen", "InvalidRecord", "Refused", "TooManyDeliveries"];

export async function letters(place) {
  const { topics } = await get("dead-letters/topics");
  const named = (topic) => [topic.topic, topic.records === null ? topic.topic : `${topic.topic} (${count(topic.records)})`];
  const topic = select(topics.map(named), { id: "letters-topic" });
  const [module, since] = [make("input"), make("input", { placeholder: "2h", size: 6 })];
  const kind = select(KINDS.map((kind) => [kind, kind || "any"]));
  const answer = make("div", { id: "letters" });
  if (!topics.length) return void place.append(make("p", { class: "quiet" }, "There are no dead letters."));
  const wanted = () => ({ topic: topic.value, module: module.value.trim(), kind: kind.value, since: since.value.trim() });
  const form = make("form", {}, make("div", { class: "row" },
    field("Topic", topic), field("Module", module), field("Kind", kind), field("Failed within", since),
    make("button", { class: "main", type: "submit" }, "Look")));
  const look = async () => {
    notice("");
    answer.setAttribute("aria-busy", "true");
    try {
      const [summary, page] = await Promise.all([get("dead-letters/summary", wanted()), get("dead-letters", wanted())]);
      answer.replaceChildren(reasons(summary, wanted(), look), ...list(page, wanted()));
    } catch (error) {
      notice(error.message, true);
    }
    answer.removeAttribute("aria-busy");
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
  place.append(form, answer);
  await look();
  return undefined;
}

/** The histogram, and the button. */
function reasons(summary, wanted, look) {
  const most = Math.max(1, ...summary.reasons.map(({ count }) => count));
  const rows = summary.reasons.map((reason) => [
    make("span", { class: "number" }, count(reason.count)),
    make("meter", { min: 0, max: most, value: reason.count, title: `${count(reason.count)} of ${count(summary.selected)}` }),
    reason.kind, reason.module, reason.message]);
  const others = summary.others ? `, and ${count(summary.others)} that are not meant` : "";
  const stay = summary.nowhere_to_go ? ` ${count(summary.nowhere_to_go)} hold no whole record, and stay.` : "";
  const section = make("section", {},
    make("p", {}, `${count(summary.selected)} dead letters${others}.${stay}`),
    rows.length ? table(["count", "", "kind", "module", "reason"], rows, "Reasons") : null);
  if (may("operator") && summary.selected > 0) {
    const attempts = make("input", { type: "number", min: 0, max: 1000, value: 3 });
    section.append(make("div", { class: "row" },
      field("At most so many times", attempts),
      button("Redrive", () => redrive(summary, { ...wanted, attempts: attempts.value }, look), { id: "redrive" })));
  }
  return section;
}

async function redrive(summary, query, look) {
  const text = [`${count(summary.selected)} dead letters on ${query.topic} become the records that they were, on the topics that they came from.`,
    `A record that was sent back ${query.attempts} times already is parked.`];
  if (!await confirmed("Redrive?", text, "Redrive")) return;
  notice("Redriving…");
  try {
    const done = await ask("POST", "dead-letters/redrive", { query });
    await look();
    notice(`${count(done.redriven)} sent back, ${count(done.parked)} parked, ${count(done.refused)} refused, ${count(done.nowhere_to_go)} stay.`, done.refused > 0);
  } catch (error) {
    notice(error.message, true);
  }
}

function list(page, wanted) {
  const cards = make("div");
  const more = button("Older ones", async () => {
    add(await get("dead-letters", { ...wanted, before: more.next }));
  });
  const end = make("p", { class: "quiet" });
  const add = (page) => {
    cards.append(...page.letters.map(card));
    more.next = page.next;
    more.hidden = page.next === null;
    end.textContent = page.next === null && page.is_cut ? "There may be older ones than are looked through." : "";
  };
  add(page);
  return [cards, more, end];
}

function card(letter) {
  const place = [letter.pipeline && `pipeline ${letter.pipeline}`, letter.stage !== null && `priority ${letter.stage}`,
    letter.module && `module ${letter.module} ${short(letter.module_sha256)}`, letter.generation !== null && `generation ${letter.generation}`];
  const way = [letter.original_topic && `from ${letter.original_topic}`, letter.attempts && `tried ${letter.attempts} times`,
    letter.redriven && `sent back ${letter.redriven} times`, !letter.can_go_back && "holds no whole record"];
  return make("article", { class: "card" },
    make("header", {},
      make("h3", { class: "bad" }, letter.kind),
      make("span", {}, letter.message),
      make("span", { class: "quiet" }, date(letter.failed_at_unix_ms))),
    make("p", { class: "quiet" }, [...place, ...way].filter(Boolean).join(" · ")),
    letter.record
      ? make("details", {}, make("summary", {}, `Record, ${bytes(letter.value_bytes)}`), make("pre", { tabIndex: 0 }, pretty(letter.record)))
      : make("p", { class: "quiet" }, may("operator") ? `The record has ${bytes(letter.value_bytes)}: too long to be shown.` : "What it holds is shown to operators."));
}
