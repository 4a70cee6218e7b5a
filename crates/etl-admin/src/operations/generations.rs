//! Generations: what was in force, what each changed, and the ways back.

use std::collections::BTreeMap;

use etl_orchestrator::{ChangeErrorKind, Generation};
use serde_json::{Value, json};

use super::{changed, changed_meanwhile, invalid, tagged};
use crate::answer::Answer;
use crate::archive::NotRestored;
use crate::audit;
use crate::call::Call;
use crate::site::Site;

pub(crate) fn list(site: &Site, _call: &Call) -> Result<Answer, Answer> {
    let generations = kept(site);
    let present = generations.keys().last().copied().unwrap_or(0);
    let generations: Vec<Value> = generations
        .values()
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
    let in_memory = site.orchestrator.difference(from, to);
    let fields = in_memory
        .as_ref()
        .map(|_| audit::difference(&site.orchestrator, from, to));
    let mut value = match (in_memory, fields) {
        (Some(difference), Some(fields)) if !fields.is_null() => json!({
            "fields": fields["fields"],
            "more_fields": fields["more_fields"],
            "pipelines_added": difference.pipelines_added,
            "pipelines_removed": difference.pipelines_removed,
            "pipelines_changed": difference.pipelines_changed,
            "modules_added": difference.modules_added,
            "modules_removed": difference.modules_removed,
            "modules_changed": difference.modules_changed,
            "settings_changed": difference.settings_changed,
        }),
        _ => {
            let archive = site.archive.as_ref();
            let stored = archive.and_then(|archive| archive.difference(from, to));
            stored.ok_or_else(not_both)?.map_err(|error| {
                tracing::error!(%error, "a generation that is kept cannot be read");
                Answer::problem(422, error.to_string())
            })?
        }
    };
    value["from"] = from.into();
    value["to"] = to.into();
    Ok(Answer::json(&value))
}

pub(crate) fn roll_back(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let options = call.change();
    let generation = asked(call)?;
    let made = site.orchestrator.roll_back(generation, &options);
    let is_elsewhere = made
        .as_ref()
        .is_err_and(|error| error.kind() == ChangeErrorKind::Unknown);
    let archive = site.archive.as_ref().filter(|_| is_elsewhere);
    let files = site.host.load_options();
    let Some(restored) = archive.and_then(|archive| archive.restore(generation, &files)) else {
        return changed(made, &options);
    };
    let loaded = restored.map_err(|why| match why {
        NotRestored::Lost(error) => Answer::problem(422, error.to_string()),
        NotRestored::Invalid(report) => invalid(&report),
    })?;
    let present = site.orchestrator.generation();
    let security = site
        .orchestrator
        .read_configuration(present, |loaded| loaded.config.security.clone())
        .ok_or_else(changed_meanwhile)?;
    // As with one that is in memory: who is trusted is said by files alone.
    if loaded.config.security != security {
        let detail = format!(
            "generation {generation} trusts other keys with its modules; load it from files instead"
        );
        return Err(Answer::problem(422, detail));
    }
    changed(site.orchestrator.replace(loaded, &options), &options)
}

pub(crate) fn reload(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let loaded = site.host.load().map_err(|report| invalid(&report))?;
    let options = call.change();
    changed(site.orchestrator.replace(loaded, &options), &options)
}

/// Every generation that can be had, by its number: what this process has in memory, and what is kept of earlier ones.
fn kept(site: &Site) -> BTreeMap<u64, Generation> {
    let archived = site.archive.iter().flat_map(|archive| archive.list());
    archived
        .chain(site.orchestrator.generations())
        .map(|generation| (generation.generation, generation))
        .collect()
}

/// The one that was in force before, or itself where none is kept.
fn before(site: &Site, generation: u64) -> u64 {
    let generations = kept(site);
    let earlier = generations.range(..generation).next_back();
    earlier.map_or(generation, |(number, _)| *number)
}

fn asked(call: &Call) -> Result<u64, Answer> {
    let text = call.parameter("generation");
    text.parse().map_err(|_| not_kept(text))
}

fn not_kept(text: &str) -> Answer {
    Answer::problem(404, format!("no generation is called {text:?}"))
}
