//! What a guest does when it meets a poisoned record, and what must be true of everybody else afterwards.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_pool::{FailureKind, Pool, Shelves, Template};

use crate::common::{in_ms, records, words};

/// What a guest does when it meets a poisoned record: its fields, `$attack` among them, and how the call must end.
pub struct Attack {
    pub name: String,
    pub fields: String,
    pub ends: FailureKind,
}

/// The attacks of `tests/guests/hostile`, one a file.
pub fn attacks() -> Vec<Attack> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/hostile");
    let files = std::fs::read_dir(folder).expect("the folder of hostile guests");
    let mut attacks: Vec<Attack> = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wat"))
        .map(|path| {
            let fields = std::fs::read_to_string(&path).expect("text");
            let ends = fields
                .lines()
                .next()
                .and_then(|line| line.strip_prefix(";; ends: "));
            let ends = [
                FailureKind::Timeout,
                FailureKind::Trap,
                FailureKind::MemoryLimit,
            ]
            .into_iter()
            .find(|kind| Some(&*kind.to_string()) == ends)
            .unwrap_or_else(|| panic!("{}: how does it end?", path.display()));
            Attack {
                name: path.display().to_string(),
                fields,
                ends,
            }
        })
        .collect();
    attacks.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(attacks.len() > 40, "there are {}", attacks.len());
    attacks
}

/// The poisoned record ends as it should, and what comes after is served, on this lane and on another.
pub fn survives(
    pool: &Arc<Pool>,
    shelves: &mut Shelves,
    template: &Arc<Template>,
    attack: &Attack,
) {
    let name = &attack.name;
    let verdicts = shelves
        .call(template, &records(&["before"]), in_ms(5_000))
        .expect("the call is served");
    assert_eq!(words(&verdicts), ["=before"], "{name}");
    let timeout = if attack.ends == FailureKind::Timeout {
        30
    } else {
        10_000
    };
    let deadline = in_ms(timeout);
    let kind = match shelves.call(template, &records(&["!"]), deadline) {
        Ok(verdicts) => match verdicts.get(0) {
            Ok(verdict) => panic!("{name}: {verdict:?}"),
            Err(error) => error.kind(),
        },
        Err(error) => error.kind(),
    };
    assert_eq!(kind, attack.ends, "{name}");
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
