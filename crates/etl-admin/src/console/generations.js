// Generations: what was in force, what each one changed, and the way back.

import { change, get, may } from "./api.js";
import { button, confirmed, make, table } from "./dom.js";
import { date } from "./format.js";

export async function generations(place) {
  let shown = "";
  const list = make("div");
  const difference = make("section", { id: "difference", "aria-live": "polite" });
  place.append(list, difference);
  if (may("operator")) {
    place.prepend(make("div", { class: "row" }, button("Load the files again", async () => {
      const text = "Changes that were made here and are not in the files are over.";
      if (await confirmed("Load the configuration's files again?", text, "Load") && await change("POST", "reload")) await refresh();
    })));
  }

  async function refresh() {
    const { generation, generations } = await get("generations");
    const text = JSON.stringify(generations);
    if (text === shown) return;
    shown = text;
    const rows = [...generations].reverse().map((kept) => [
      String(kept.generation),
      date(kept.since_unix_ms),
      kept.cause,
      String(kept.pipelines),
      make("div", { class: "row tight" },
        button("What changed", async () => difference.replaceChildren(...fields(await get(`generations/${kept.generation}`)))),
        kept.generation === generation ? make("span", { class: "badge good" }, "in force") : may("operator") ? back(kept, generation) : null),
    ]);
    list.replaceChildren(table(["generation", "since", "by", "pipelines", ""], rows, "Generations"));
  }

  const back = (kept, generation) => button("Roll back", async () => {
    const text = `What was in force since ${date(kept.since_unix_ms)} is in force again, with the bytes that its modules had.`;
    const isMeant = await confirmed(`Roll back to generation ${kept.generation}?`, text, "Roll back");
    if (isMeant && await change("POST", `generations/${kept.generation}/rollback`, { generation })) await refresh();
  });

  await refresh();
  return refresh;
}

function fields(difference) {
  const value = (value) => make("code", {}, value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value));
  const lists = [
    ["Pipelines added", difference.pipelines_added], ["Pipelines removed", difference.pipelines_removed], ["Pipelines changed", difference.pipelines_changed],
    ["Modules added", difference.modules_added], ["Modules removed", difference.modules_removed], ["Modules changed", difference.modules_changed],
  ].filter(([, names]) => names.length);
  const rows = difference.fields.map((field) => [field.pipeline, make("code", {}, field.field), value(field.before), value(field.after)]);
  const isSame = !lists.length && !difference.settings_changed;
  return [
    make("h2", {}, `From generation ${difference.from} to ${difference.to}`),
    ...lists.map(([name, names]) => make("p", {}, `${name}: ${names.join(", ")}`)),
    difference.settings_changed ? make("p", {}, "Settings of the engine changed.") : null,
    rows.length ? table(["pipeline", "field", "before", "after"], rows, "Fields that changed") : null,
    difference.more_fields ? make("p", { class: "quiet" }, `and ${difference.more_fields} more`) : null,
    isSame ? make("p", { class: "quiet" }, "Nothing differs.") : null,
  ].filter(Boolean);
}
