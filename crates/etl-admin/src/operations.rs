//! What each route does: the orchestrator asked, and its answer as JSON.
//!
//! Operations run on threads that may block, and one change at a time. Each is a function of the site and the call, named in the table
//! of `routes`.

pub(crate) mod console;
pub(crate) mod explain;
pub(crate) mod generations;
pub(crate) mod history;
pub(crate) mod letters;
pub(crate) mod modules;
pub(crate) mod pipelines;
pub(crate) mod statistics;
pub(crate) mod watching;

use etl_config::{Edit, Loaded, Problem, Report};
use etl_orchestrator::{ChangeError, ChangeErrorKind, ChangeOptions, Changed};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::call::Call;
use crate::site::Site;

/// How often a change is composed anew because another one came in between.
const ATTEMPTS: usize = 8;

/// JSON that was true of a generation, which is its tag.
fn tagged(generation: u64, value: &Value) -> Answer {
    Answer::json(value).header("etag", format!("\"{generation}\""))
}

fn changed_meanwhile() -> Answer {
    Answer::problem(503, "the configuration has just changed")
}

/// What a change, or a trial of one, came to.
fn changed(made: Result<Changed, ChangeError>, options: &ChangeOptions) -> Result<Answer, Answer> {
    let changed = made.map_err(|error| refusal(&error))?;
    let warnings: Vec<Value> = changed.warnings.iter().map(Problem::to_json).collect();
    let value = json!({
        "generation": changed.generation,
        "dry_run": options.dry_run,
        "warnings": warnings,
    });
    Ok(tagged(changed.generation, &value))
}

fn refusal(error: &ChangeError) -> Answer {
    match (error.kind(), error.report()) {
        (ChangeErrorKind::Conflict, _) => Answer::problem(412, error.to_string()),
        (ChangeErrorKind::Unknown, _) => Answer::problem(404, error.to_string()),
        (_, Some(report)) => invalid(report),
        _ => Answer::problem(422, error.to_string()),
    }
}

/// Everything that is wrong with what was sent.
fn invalid(report: &Report) -> Answer {
    let detail = "it cannot be used, and nothing has changed; `problems` says why";
    Answer::problem_with(422, detail, report.to_json())
}

/// Edits the configuration in force. What the edits are depends on it: they are composed again where it has changed meanwhile, unless
/// the caller wanted it to be a certain one.
fn edit(
    site: &Site,
    call: &Call,
    compose: impl Fn(&Loaded) -> Result<Vec<Edit>, Answer>,
) -> Result<Answer, Answer> {
    let mut options = call.change();
    let asked = options.expected_generation;
    for attempt in 1.. {
        let generation = site.orchestrator.generation();
        let edits = site
            .orchestrator
            .read_configuration(generation, &compose)
            .unwrap_or_else(|| Err(changed_meanwhile()))?;
        options.expected_generation = asked.or(Some(generation));
        let files = site.host.load_options();
        match site.orchestrator.edit(&edits, &files, &options) {
            Err(error)
                if error.kind() == ChangeErrorKind::Conflict
                    && asked.is_none()
                    && attempt < ATTEMPTS => {}
            made => return changed(made, &options),
        }
    }
    Err(Answer::problem(503, "the configuration keeps changing"))
}
