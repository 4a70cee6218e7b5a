//! What happened: the end of the audit log.

use serde_json::json;

use crate::answer::Answer;
use crate::audit;
use crate::call::Call;
use crate::site::Site;

/// Lines of a page, where nothing is said.
const LIMIT: usize = 100;

pub(crate) fn audit(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let limit = call.number("limit").unwrap_or(LIMIT);
    let lines = audit::tail(site.audit_folder(), call.number("before"), limit);
    let lines = lines.map_err(|error| {
        tracing::error!(%error, "the audit log cannot be read");
        Answer::problem(500, "the audit log cannot be read")
    })?;
    let next = lines.last().and_then(|line| line["seq"].as_u64());
    let next = next.filter(|seq| *seq > 1);
    Ok(Answer::json(&json!({ "lines": lines, "next": next })))
}
