// The audit log, the newest lines first.

import { get } from "./api.js";
import { button, make, table } from "./dom.js";

export async function audit(place) {
  const pages = make("div");
  let next = null;
  const older = button("Older ones", async () => {
    await add(next);
  });
  const add = async (before) => {
    const page = await get("audit", { limit: 100, before });
    const rows = page.lines.map((line) => [
      String(line.seq), new Date(line.time).toLocaleString(), make("strong", { class: ["refused", "failed"].includes(line.event) ? "bad" : "" }, line.event),
      line.who ? `${line.who} (${line.role})` : "", line.from ?? "", make("code", {}, line.what ?? ""), rest(line)]);
    pages.append(table(["line", "time", "event", "who", "from", "what", ""], rows, "Audit lines"));
    next = page.next;
    older.hidden = next === null;
  };
  place.append(button("Look again", async () => {
    pages.replaceChildren();
    await add(null);
  }), pages, older);
  await add(null);
  return undefined;
}

/** What is not in a column of its own. */
function rest(line) {
  const shown = new Set(["seq", "time", "prev", "event", "who", "role", "from", "what"]);
  const others = Object.fromEntries(Object.entries(line).filter(([name]) => !shown.has(name)));
  const brief = [line.of && `of ${line.of}`, line.reason, line.generation_after && `generation ${line.generation_after}`].filter(Boolean).join(", ");
  return make("details", {}, make("summary", {}, brief || "more"), make("pre", { tabIndex: 0 }, JSON.stringify(others, null, 2)));
}
