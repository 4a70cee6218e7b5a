//! Generations: what was in force, what each changed, and the ways back.

use serde_json::{Value, json};

use super::{changed, invalid, tagged};
use crate::answer::Answer;
use crate::audit;
use crate::call::Call;
use crate::site::Site;

pub(crate) fn list(site: &Site, _call: &Call) -> Result<Answer, Answer> {
    let generations = site.orchestrator.generations();
    let present = generations.last().map_or(0, |last| last.generation);
    let generations: Vec<Value> = generations
        .iter()
        .map(|generation| {
            json!({
                "generation": generation.generation,
                "since_unix_ms": generation.since,
                "cause": generation.cause,
                "pipelines": generation.pipelines,
            })
        })
        .collect();
    let value = json!({ "generation": present, "generations": generations });
    Ok(tagged(present, &value))
}

pub(crate) fn difference(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let to = asked(call)?;
    let from = match call.query("from") {
        Some(from) => from.parse().map_err(|_| not_kept(from))?,
        None => before(site, to),
    };
    let not_both = || {
        let detail = format!("generations {from} and {to} are not both kept");
        Answer::problem(404, detail)
    };
    let difference = site.orchestrator.difference(from, to);
    let difference = difference.ok_or_else(not_both)?;
    let fields = audit::difference(&site.orchestrator, from, to);
    if fields.is_null() {
        return Err(not_both());
    }
    Ok(Answer::json(&json!({
        "from": from,
        "to": to,
        "fields": fields["fields"],
        "more_fields": fields["more_fields"],
        "pipelines_added": difference.pipelines_added,
        "pipelines_removed": difference.pipelines_removed,
        "pipelines_changed": difference.pipelines_changed,
        "modules_added": difference.modules_added,
        "modules_removed": difference.modules_removed,
        "modules_changed": difference.modules_changed,
        "settings_changed": difference.settings_changed,
    })))
}

pub(crate) fn roll_back(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let options = call.change();
    changed(
        site.orchestrator.roll_back(asked(call)?, &options),
        &options,
    )
}

pub(crate) fn reload(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let loaded = site.host.load().map_err(|report| invalid(&report))?;
    let options = call.change();
    changed(site.orchestrator.replace(loaded, &options), &options)
}

/// The one that was in force before, or itself where none is kept.
fn before(site: &Site, generation: u64) -> u64 {
    let generations = site.orchestrator.generations();
    let mut earlier = generations.iter().rev();
    let earlier = earlier.find(|kept| kept.generation < generation);
    earlier.map_or(generation, |kept| kept.generation)
}

fn asked(call: &Call) -> Result<u64, Answer> {
    let text = call.parameter("generation");
    text.parse().map_err(|_| not_kept(text))
}

fn not_kept(text: &str) -> Answer {
    Answer::problem(404, format!("no generation is called {text:?}"))
}
