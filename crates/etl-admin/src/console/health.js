// Whether all is well, and what is not.

import { get, getStatistics } from "./api.js";
import { figures, make, table } from "./dom.js";
import { bytes, count } from "./format.js";

export async function health(place) {
  async function refresh() {
    const [health, now] = await Promise.all([get("health"), getStatistics()]);
    const rows = health.reasons.map((reason) => [reason.alert, reason.pipeline ?? "", reason.module ?? "", reason.message]);
    const circuits = now.circuits.filter(({ state }) => state !== "Closed").map(({ pipeline, module, state }) => [pipeline, module, state]);
    const limit = now.instance_memory_limit_bytes === null ? "" : ` of ${bytes(now.instance_memory_limit_bytes)}`;
    place.replaceChildren(
      figures([
        ["state", health.state, health.state === "ok" ? "good" : "bad"],
        ["records are taken", health.ready ? "yes" : "no", health.ready ? "good" : "bad"],
        ["generation", count(health.generation)],
        ["in flight", `${count(now.in_flight_records)}, ${bytes(now.in_flight_bytes)}`],
        ["waiting (urgent, next, others)", now.waiting_by_class.map(count).join(", ")],
        ["waiting for a retry", count(now.retrying)],
        ["instances", count(now.instances)],
        ["their memory", bytes(now.instance_memory_bytes) + limit],
        ["memory of the process", bytes(now.process_memory_bytes)],
        ["reloads", `${count(now.reloads)}, ${count(now.reloads_refused)} refused`],
      ]),
      ...health.waiting.map((text) => make("p", { class: "bad" }, `Waiting: ${text}`)),
      rows.length ? table(["alert", "pipeline", "module", "what it is"], rows, "Reasons") : make("p", { class: "good", hidden: health.waiting.length > 0 }, "All is well."),
      ...(circuits.length ? [make("h2", {}, "Circuits"), table(["pipeline", "module", "state"], circuits, "Circuits")] : []));
  }
  await refresh();
  return refresh;
}
