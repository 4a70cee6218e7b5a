//! Says on standard error what a run waits for, when it begins to and when it need not any more.

use std::sync::Arc;

use etl_broker_adapter::{Role, Status, Waiting};

use crate::output::tell;

/// Prints until it is dropped or aborted. The same failure is printed again only when it has been tried ever more often.
pub async fn show(status: Arc<Status>, json: bool) {
    let mut changes = status.subscribe();
    let mut shown: [Option<Waiting>; 3] = Default::default();
    while changes.changed().await.is_ok() {
        let now = changes.borrow_and_update().clone();
        for (role, (now, shown)) in Role::ALL.into_iter().zip(now.into_iter().zip(&mut shown)) {
            match (&now, &shown) {
                (Some(waiting), _) if waiting.attempts.is_power_of_two() => say(waiting, json),
                (None, Some(before)) => works(role, before, json),
                _ => {}
            }
            *shown = now;
        }
    }
}

fn say(waiting: &Waiting, json: bool) {
    if json {
        let line = serde_json::json!({
            "waiting": waiting.role.name(),
            "error": waiting.error,
            "attempts": waiting.attempts,
            "next_seconds": (waiting.next.as_secs_f64() * 10.0).round() / 10.0,
        });
        tell!("{line}");
    } else {
        tell!("etl: {waiting}");
    }
}

fn works(role: Role, before: &Waiting, json: bool) {
    if json {
        tell!("{}", serde_json::json!({ "works": role.name() }));
    } else {
        tell!("etl: works again: {}", before.error);
    }
}
