//! What a guest does when it meets a poisoned record, and what must be true of everybody else afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_pool::{FailureKind, Pool, Shelves, Template};

use crate::common::{in_ms, records, words};

/// What a guest does when it meets a poisoned record: fields it needs, the instructions, and how the call must end.
pub struct Attack<'a> {
    pub name: &'a str,
    pub extra: &'a str,
    pub then: &'a str,
    pub ends: &'static [FailureKind],
}

pub const TIMEOUT: &[FailureKind] = &[FailureKind::Timeout];

pub const TRAP: &[FailureKind] = &[FailureKind::Trap];

pub const MEMORY: &[FailureKind] = &[FailureKind::MemoryLimit];

/// The poisoned record ends as it should, and what comes after is served, on this lane and on another.
pub fn survives(
    pool: &Arc<Pool>,
    shelves: &mut Shelves,
    template: &Arc<Template>,
    attack: &Attack<'_>,
) {
    let name = attack.name;
    let verdicts = shelves
        .call(template, &records(&["before"]), in_ms(5_000))
        .expect("the call is served");
    assert_eq!(words(&verdicts), ["=before"], "{name}");
    let timeout = if attack.ends == TIMEOUT { 30 } else { 10_000 };
    let deadline = in_ms(timeout);
    let kind = match shelves.call(template, &records(&["!"]), deadline) {
        Ok(verdicts) => match verdicts.get(0) {
            Ok(verdict) => panic!("{name}: {verdict:?}"),
            Err(error) => error.kind(),
        },
        Err(error) => error.kind(),
    };
    assert!(attack.ends.contains(&kind), "{name}: {kind}");
    if kind == FailureKind::Timeout {
        let overshoot = Instant::now().saturating_duration_since(deadline);
        // Ten times what is promised on an idle machine and more, because tests share theirs.
        assert!(
            overshoot < Duration::from_millis(500),
            "{name}: {overshoot:?}"
        );
    }
    let verdicts = shelves
        .call(template, &records(&["after"]), in_ms(5_000))
        .expect("the call is served");
    assert_eq!(words(&verdicts), ["=after"], "{name}");
    let verdicts = pool
        .shelves()
        .call(template, &records(&["elsewhere"]), in_ms(5_000))
        .expect("the call is served");
    assert_eq!(words(&verdicts), ["=elsewhere"], "{name}");
}
