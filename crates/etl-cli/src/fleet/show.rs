//! `etl fleet`: who runs which revision, how they are, and whether all have the last one.

use std::time::{Duration, Instant};

use clap::Args;
use etl_broker_adapter::AdapterError;
use etl_broker_adapter::nats::NatsUrl;
use etl_broker_adapter::nats::fleet::{Fleet, WorkerReport};
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::output::{self, counted, grouped};

/// Between two looks while waiting.
const LOOK: Duration = Duration::from_millis(300);

const HELP: &str = "\
A worker says how it is every 3 seconds; one that says nothing for 15 is no longer listed.

Exit codes:
  0 all workers have the last revision
  1 one refused it, one has not got it (with --wait: not in time), there is no worker, or the
    fleet cannot be reached
  2 wrong arguments

Examples:
  etl fleet --of nats://broker:4222/orders
  etl fleet --of nats://broker:4222/orders --wait
      Ends when all workers have what was pushed, or as soon as one refuses it, and says why.
  etl fleet --of nats://broker:4222/orders --json |
      jq -r '.workers[] | select(.health != \"ok\") | .worker'";

/// Show the workers of a fleet: revision, generation, lag and health of each
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct FleetOptions {
    /// The fleet: nats://HOST:PORT/FLEET
    #[arg(long, value_name = "URL", value_parser = NatsUrl::parse)]
    pub of: NatsUrl,

    /// Wait until all workers have the last revision or one refuses it, for so many seconds at most
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "60")]
    pub wait: Option<u64>,

    /// Print it as JSON
    #[arg(long)]
    pub json: bool,
}

/// What the workers made of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All have it.
    Complete,
    /// Some do not have it yet.
    OnTheWay,
    /// At least one does not take it.
    Refused,
    /// Nobody is there.
    NoWorkers,
    /// Nothing was pushed.
    NoRevision,
}

impl State {
    fn of(revision: Option<u64>, workers: &[WorkerReport]) -> Self {
        let Some(revision) = revision else {
            return Self::NoRevision;
        };
        let refused = |worker: &WorkerReport| {
            let refusal = worker.refused.as_ref();
            refusal.is_some_and(|refusal| refusal.revision >= revision)
        };
        if workers.is_empty() {
            Self::NoWorkers
        } else if workers.iter().any(refused) {
            Self::Refused
        } else if workers.iter().all(|worker| worker.revision >= revision) {
            Self::Complete
        } else {
            Self::OnTheWay
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::OnTheWay => "on_the_way",
            Self::Refused => "refused",
            Self::NoWorkers => "no_workers",
            Self::NoRevision => "no_revision",
        }
    }
}

/// Runs the command.
pub fn show(options: &FleetOptions) -> Result<(), Exit> {
    let until = options
        .wait
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (revision, workers) = super::runtime()?
        .block_on(look(options, until))
        .map_err(Exit::from)?;
    let state = State::of(revision, &workers);
    if options.json {
        output::print_json(&as_json(revision, &workers, state))?;
    } else {
        output::print(&as_text(revision, &workers))?;
    }
    let verdict = verdict(state, revision, &workers);
    match state {
        State::Complete if options.json => Ok(()),
        State::Complete => output::print(&format!("{verdict}\n")),
        _ => Err(Exit::failed(verdict)),
    }
}

/// Looks once, or until there is nothing more to wait for.
async fn look(
    options: &FleetOptions,
    until: Option<Instant>,
) -> Result<(Option<u64>, Vec<WorkerReport>), AdapterError> {
    let mut fleet = Fleet::open(&options.of, false).await?;
    loop {
        let looked = async {
            let revision = fleet.current().await?.map(|(revision, _)| revision);
            Ok::<_, AdapterError>((revision, fleet.workers().await?))
        };
        let late = until.is_none_or(|until| Instant::now() >= until);
        match looked.await {
            Ok((revision, workers)) => {
                let waits = matches!(
                    State::of(revision, &workers),
                    State::OnTheWay | State::NoWorkers | State::NoRevision
                );
                if late || !waits {
                    return Ok((revision, workers));
                }
            }
            // A server that is started again is waited for like a worker.
            Err(error) if !late && error.is_retryable() => {
                if let Ok(again) = Fleet::open(&options.of, false).await {
                    fleet = again;
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn verdict(state: State, revision: Option<u64>, workers: &[WorkerReport]) -> String {
    let revision = revision.unwrap_or_default();
    let all = workers.len() as u64;
    match state {
        State::Complete => match all {
            1 => format!("the only worker has revision {revision}"),
            _ => format!("all {all} workers have revision {revision}"),
        },
        State::NoWorkers => {
            format!("no worker has said anything lately; revision {revision} waits")
        }
        State::NoRevision => {
            "no configuration has been pushed yet: `etl push CONFIG --to URL`".to_owned()
        }
        State::OnTheWay => {
            let without = workers.iter().filter(|worker| worker.revision < revision);
            let names: Vec<&str> = without.map(|worker| &*worker.worker).collect();
            format!(
                "{} of {} have revision {revision}; not yet: {}",
                all - names.len() as u64,
                counted(all, "worker"),
                names.join(", ")
            )
        }
        State::Refused => {
            let mut text = String::new();
            for worker in workers {
                if let Some(refusal) = worker
                    .refused
                    .as_ref()
                    .filter(|refusal| refusal.revision >= revision)
                {
                    let between = if text.is_empty() { "" } else { "\n" };
                    text.push_str(&format!(
                        "{between}{} refused revision {} and goes on with {}:\n{}",
                        worker.worker,
                        refusal.revision,
                        match worker.revision {
                            0 => "nothing".to_owned(),
                            own => format!("revision {own}"),
                        },
                        refusal.reason.trim_end()
                    ));
                }
            }
            text
        }
    }
}

fn as_text(revision: Option<u64>, workers: &[WorkerReport]) -> String {
    if workers.is_empty() {
        return String::new();
    }
    let head = ["WORKER", "REVISION", "GENERATION", "LAG", "HEALTH"].map(str::to_owned);
    let rows = workers.iter().map(|worker| {
        let behind = revision.is_some_and(|revision| worker.revision < revision);
        let health = match worker.reasons.as_slice() {
            [] => worker.health.clone(),
            reasons => format!("{}: {}", worker.health, reasons.join("; ")),
        };
        [
            worker.worker.clone(),
            format!("{}{}", worker.revision, if behind { " (old)" } else { "" }),
            worker.generation.to_string(),
            worker.lag.map_or("-".to_owned(), grouped),
            health,
        ]
    });
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn as_json(revision: Option<u64>, workers: &[WorkerReport], state: State) -> Value {
    json!({
        "revision": revision,
        "state": state.name(),
        "workers": workers.iter().map(|worker| json!({
            "worker": worker.worker,
            "host": worker.host,
            "pid": worker.pid,
            "version": worker.version,
            "started_at": worker.started_at,
            "at": worker.at,
            "revision": worker.revision,
            "generation": worker.generation,
            "lag": worker.lag,
            "health": worker.health,
            "reasons": worker.reasons,
            "refused": worker.refused.as_ref().map(|refusal| json!({
                "revision": refusal.revision,
                "reason": refusal.reason,
            })),
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use etl_broker_adapter::nats::fleet::Refusal;

    fn worker(name: &str, revision: u64, refused: Option<u64>) -> WorkerReport {
        WorkerReport {
            worker: name.to_owned(),
            revision,
            generation: 2,
            health: "ok".to_owned(),
            lag: Some(1_234),
            refused: refused.map(|revision| Refusal {
                revision,
                reason: "no".to_owned(),
            }),
            ..WorkerReport::default()
        }
    }

    #[test]
    fn all_have_it_or_somebody_does_not() {
        let (a, b, c) = (
            worker("a", 8, None),
            worker("b", 7, None),
            worker("c", 7, Some(8)),
        );
        let state = |workers: &[&WorkerReport]| {
            let workers: Vec<WorkerReport> =
                workers.iter().map(|worker| (*worker).clone()).collect();
            State::of(Some(8), &workers)
        };
        assert_eq!(state(&[]), State::NoWorkers);
        assert_eq!(state(&[&a]), State::Complete);
        assert_eq!(state(&[&a, &b]), State::OnTheWay);
        assert_eq!(state(&[&a, &b, &c]), State::Refused);
        assert_eq!(State::of(None, &[a]), State::NoRevision);
        // An old refusal is history.
        assert_eq!(
            State::of(Some(9), &[worker("d", 9, Some(8))]),
            State::Complete
        );
    }

    #[test]
    fn the_table_has_columns() {
        let workers = [worker("a", 8, None), worker("longer", 7, None)];
        assert_eq!(
            as_text(Some(8), &workers),
            "WORKER  REVISION  GENERATION  LAG    HEALTH\n\
             a       8         2           1,234  ok\n\
             longer  7 (old)   2           1,234  ok\n"
        );
        assert_eq!(
            verdict(State::OnTheWay, Some(8), &workers),
            "1 of 2 workers have revision 8; not yet: longer"
        );
    }
}
