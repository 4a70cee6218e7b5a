//! What a runner waits for, where something that it needs is away.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;

/// What something outside is to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Where records come from.
    Source,
    /// Where they go.
    Sink,
    /// Where dead letters go, if that is a place of their own.
    DeadLetters,
}

impl Role {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Source, Self::Sink, Self::DeadLetters];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
            Self::DeadLetters => "dead_letters",
        }
    }
}

/// A failure that passes, and when it will be tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What failed.
    pub role: Role,
    /// What it said.
    pub error: String,
    /// Attempts that failed, one after the other.
    pub attempts: u32,
    /// From the last failure to the next attempt.
    pub next: Duration,
}

impl fmt::Display for Waiting {
    /// `cannot write nats://…: connection refused; trying again in 1.6 s (4 attempts failed)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; trying again in {:.1} s",
            self.error,
            self.next.as_secs_f64()
        )?;
        match self.attempts {
            0 | 1 => Ok(()),
            attempts => write!(f, " ({attempts} attempts failed)"),
        }
    }
}

/// What is waited for now, for each role; readable while it runs.
#[derive(Debug)]
pub struct Status(watch::Sender<[Option<Waiting>; 3]>);

impl Default for Status {
    fn default() -> Self {
        Self(watch::Sender::new([None, None, None]))
    }
}

impl Status {
    /// What is waited for now.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.0.borrow().iter().flatten().cloned().collect()
    }

    /// Whether this role is waited for.
    pub fn is_waiting(&self, role: Role) -> bool {
        self.0.borrow()[role as usize].is_some()
    }

    /// Sees every change, or the last of several.
    pub fn subscribe(&self) -> watch::Receiver<[Option<Waiting>; 3]> {
        self.0.subscribe()
    }

    pub(crate) fn wait(&self, waiting: Waiting) {
        tracing::warn!(role = waiting.role.name(), "{waiting}");
        self.0.send_modify(|all| {
            let role = waiting.role as usize;
            all[role] = Some(waiting);
        });
    }

    pub(crate) fn works(&self, role: Role) {
        self.0.send_if_modified(|all| {
            let recovered = all[role as usize].take();
            if let Some(waiting) = &recovered {
                tracing::info!(
                    role = role.name(),
                    attempts = waiting.attempts,
                    "works again"
                );
            }
            recovered.is_some()
        });
    }
}
