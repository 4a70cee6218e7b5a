//! Dead letters: where they are, what is the matter with them, and sending them back.
//!
//! A viewer is told the reasons; what the letters hold are the records themselves, which operators see.

use std::sync::TryLockError;
use std::time::Duration;

use serde_json::{Value, json};

use crate::access::Role;
use crate::answer::{Answer, JSON};
use crate::call::Call;
use crate::dead_letters::{
    DeadLetters, DeadLettersError, Letter, LetterKey, LetterReason, Redriven, Wanted,
};
use crate::site::Site;

/// Letters of a page, where nothing is said.
const LIMIT: usize = 50;
/// How often a record is sent back at the most, where nothing is said; as with the command.
const ATTEMPTS: u32 = 3;

pub(crate) fn topics(site: &Site, _call: &Call) -> Result<Answer, Answer> {
    let topics = place(site)?.topics().map_err(|error| refusal(&error))?;
    let topics = topics.iter();
    let topics: Vec<Value> = topics
        .map(|topic| json!({ "topic": topic.topic, "records": topic.records }))
        .collect();
    Ok(Answer::json(&json!({ "topics": topics })))
}

pub(crate) fn browse(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let before = match call.query("before") {
        None => None,
        Some(text) => Some(text.parse::<LetterKey>().map_err(|()| {
            Answer::problem(400, "before is the key of a letter, as next says it")
        })?),
    };
    let limit = call.number("limit").unwrap_or(LIMIT);
    let page = with_wanted(call, |wanted| {
        place(site)?
            .browse(wanted, before, limit)
            .map_err(|error| refusal(&error))
    })?;
    let mut identity = call.identity.iter();
    let with_records = identity.any(|identity| identity.role >= Role::Operator);
    let letters = page
        .letters
        .iter()
        .map(|letter| shown(letter, with_records));
    let next = page.letters.last().filter(|_| page.has_more);
    // Put together as text, so that the numbers in records keep their digits.
    let text = format!(
        "{{\"topic\":{},\"letters\":[{}],\"next\":{},\"is_cut\":{}}}\n",
        json!(call.query("topic")),
        letters.collect::<Vec<_>>().join(","),
        json!(next.map(|last| last.key.to_string())),
        page.is_cut
    );
    Ok(Answer::new(JSON, text))
}

fn shown(letter: &Letter, with_record: bool) -> String {
    let mut text = json!({
        "key": letter.key.to_string(),
        "partition": letter.key.partition,
        "offset": letter.key.offset,
        "failed_at_unix_ms": letter.key.failed_at_unix_ms,
        "kind": letter.kind,
        "message": letter.message,
        "pipeline": letter.pipeline,
        "stage": letter.stage,
        "module": letter.module,
        "module_sha256": letter.module_sha256,
        "generation": letter.generation,
        "attempts": letter.attempts,
        "redriven": letter.redriven,
        "original_topic": letter.original_topic,
        "can_go_back": letter.can_go_back,
        "value_bytes": letter.value_bytes,
    })
    .to_string();
    text.pop();
    let record = letter.line.as_deref().filter(|_| with_record);
    format!("{text},\"record\":{}}}", record.unwrap_or("null"))
}

pub(crate) fn summary(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let found = with_wanted(call, |wanted| {
        place(site)?
            .redrive(wanted, ATTEMPTS, true)
            .map_err(|error| refusal(&error))
    })?;
    Ok(Answer::json(&json!({
        "topic": call.query("topic"),
        "selected": found.selected,
        "others": found.others,
        "nowhere_to_go": found.nowhere_to_go,
        "reasons": reasons(&found.reasons),
    })))
}

pub(crate) fn redrive(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let _one_at_a_time = match site.redriving.try_lock() {
        Ok(turn) => turn,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => {
            return Err(Answer::problem(503, "others are being redriven just now"));
        }
    };
    let attempts = call.number("attempts").unwrap_or(ATTEMPTS);
    let dry_run = call.query("dry_run") == Some("true");
    let done = with_wanted(call, |wanted| {
        place(site)?
            .redrive(wanted, attempts, dry_run)
            .map_err(|error| refusal(&error))
    })?;
    let Redriven {
        selected,
        others,
        redriven,
        parked,
        refused,
        nowhere_to_go,
        ..
    } = done;
    Ok(Answer::json(&json!({
        "topic": call.query("topic"),
        "dry_run": dry_run,
        "selected": selected,
        "others": others,
        "redriven": redriven,
        "parked": parked,
        "refused": refused,
        "nowhere_to_go": nowhere_to_go,
        "reasons": reasons(&done.reasons),
    })))
}

fn reasons(reasons: &[LetterReason]) -> Value {
    let reason = |reason: &LetterReason| {
        json!({
            "count": reason.count,
            "kind": reason.kind,
            "module": reason.module,
            "message": reason.message,
        })
    };
    reasons.iter().map(reason).collect()
}

/// Asks for the letters that a call means, of which none is out of reach.
fn with_wanted<T>(
    call: &Call,
    ask: impl FnOnce(&Wanted<'_>) -> Result<T, Answer>,
) -> Result<T, Answer> {
    let since = call.query("since").map(since).transpose()?;
    let reaches = |pipeline: Option<&str>| match pipeline {
        Some(pipeline) => call.reaches(pipeline),
        None => call.is_unconfined(),
    };
    ask(&Wanted {
        topic: call.query("topic").unwrap_or_default(),
        module: call.query("module"),
        kind: call.query("kind"),
        since,
        reaches: &reaches,
    })
}

fn since(text: &str) -> Result<Duration, Answer> {
    let since = humantime::parse_duration(text);
    since.map_err(|_| Answer::problem(400, "since is a time, as in 90s, 30m, 12h or 7d"))
}

fn place(site: &Site) -> Result<&dyn DeadLetters, Answer> {
    let detail = "the dead letters of this run go where none can be read again";
    let place = site.host.dead_letters();
    place.ok_or_else(|| Answer::problem(404, detail))
}

fn refusal(error: &DeadLettersError) -> Answer {
    let status = if error.is_absent { 404 } else { 503 };
    Answer::problem(status, &*error.message)
}
