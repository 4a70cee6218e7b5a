//! What an operation works on, and what every change goes through: one at a time, written down before it and after it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etl_config::{LoadOptions, Loaded, Report, SecretError};
use etl_orchestrator::Orchestrator;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::access::{Gate, Identity, hex};
use crate::answer::Answer;
use crate::archive::Archive;
use crate::audit::{self, Attempt, AuditLog};
use crate::call::Call;
use crate::dead_letters::DeadLetters;
use crate::limits::Limits;
use crate::routes::{Effect, Reach, Route};
use crate::secrets::Key;

/// How often a change is judged anew because another one came in between.
const ATTEMPTS: usize = 8;

/// What the program that runs the engine lends to the API.
pub trait Host: Send + Sync + 'static {
    /// Loads the configuration's files again.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    fn load(&self) -> Result<Loaded, Report>;

    /// How documents that come through the API are loaded.
    fn load_options(&self) -> LoadOptions;

    /// The key under which modules that come through the API are stored. By default they are stored as they come.
    ///
    /// # Errors
    /// There should be one, and it cannot be had.
    fn key(&self) -> Result<Option<Key>, SecretError> {
        Ok(None)
    }

    /// Every metric in the text format of Prometheus.
    fn metrics(&self) -> String;

    /// What pipelines make of a topic, or of a record in the form of a record line, as the text of a JSON object with `pipelines`.
    ///
    /// # Errors
    /// What is wrong with the record.
    fn explain(&self, asked: Asked<'_>) -> Result<String, String>;

    /// The dead letters of this run, where there can be any that are read again.
    fn dead_letters(&self) -> Option<&dyn DeadLetters> {
        None
    }

    /// What the run waits for because it is away, each in a sentence.
    fn waiting(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the process takes of the machine.
    fn process(&self) -> Process {
        Process::default()
    }
}

/// What a process takes of the machine, as far as that can be told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Memory that is in RAM.
    pub resident_memory_bytes: Option<u64>,
    /// Processor time, user and system, since it began.
    pub cpu_seconds: Option<f64>,
}

/// What [`Host::explain`] is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// A topic.
    Topic(&'a str),
    /// A record, as a record line.
    Record(&'a [u8]),
}

/// Everything that answering needs.
pub(crate) struct Site {
    pub(crate) orchestrator: Arc<Orchestrator>,
    pub(crate) host: Box<dyn Host>,
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
    /// Bytes of bodies that may be held, all together.
    pub(crate) room: Arc<Semaphore>,
    pub(crate) archive: Option<Arc<Archive>>,
    audit_folder: PathBuf,
    /// One redriving at a time: two would send the same letters back twice.
    pub(crate) redriving: Mutex<()>,
    /// One change at a time, and none once the end has begun.
    changes: Mutex<Changes>,
}

struct Changes {
    is_closed: bool,
    audit: AuditLog,
    /// The generation that was in force when the log was last written.
    known: u64,
    /// Whether it was said that a generation could not be kept.
    is_unkept: bool,
}

impl Site {
    pub(crate) fn new(
        orchestrator: Arc<Orchestrator>,
        host: Box<dyn Host>,
        gate: Gate,
        limits: Limits,
        audit: AuditLog,
        archive: Option<Arc<Archive>>,
    ) -> Self {
        let audit_folder = audit.folder().to_owned();
        let changes = Changes {
            is_closed: false,
            audit,
            known: orchestrator.generation(),
            is_unkept: false,
        };
        let site = Self {
            orchestrator,
            host,
            gate,
            limits,
            room: Arc::new(Semaphore::new(
                limits.all_bodies_bytes.min(Semaphore::MAX_PERMITS),
            )),
            archive,
            audit_folder,
            redriving: Mutex::default(),
            changes: Mutex::new(changes),
        };
        site.keep(&mut site.lock());
        site
    }

    /// Has generations that are new kept beyond the end of the process. One that cannot be is in force all the same, and tried again.
    fn keep(&self, changes: &mut Changes) {
        let Some(archive) = &self.archive else {
            return;
        };
        let kept = archive.catch_up(&self.orchestrator);
        if let Err(error) = &kept
            && !changes.is_unkept
        {
            tracing::error!(%error, "a generation is kept in memory alone");
        }
        changes.is_unkept = kept.is_err();
    }

    /// Where the audit log is.
    pub(crate) fn audit_folder(&self) -> &Path {
        &self.audit_folder
    }

    /// Waits until the change that is being made is made, and lets no other begin.
    pub(crate) fn close(&self) {
        let mut changes = self.lock();
        changes.is_closed = true;
        self.keep(&mut changes);
        self.notice(&mut changes);
    }

    /// Writes down what was changed by other ways than the API.
    pub(crate) fn look_around(&self) {
        let mut changes = self.lock();
        self.keep(&mut changes);
        self.notice(&mut changes);
    }

    fn notice(&self, changes: &mut Changes) {
        self.notice_until(changes, self.orchestrator.generation());
    }

    /// The same for those up to a generation.
    fn notice_until(&self, changes: &mut Changes, generation: u64) {
        if generation <= changes.known {
            return;
        }
        let since: Vec<Value> = self
            .orchestrator
            .generations()
            .iter()
            .filter(|kept| kept.generation > changes.known && kept.generation <= generation)
            .map(|kept| json!({ "generation": kept.generation, "cause": kept.cause }))
            .collect();
        let what = json!({
            "generation_before": changes.known,
            "generation_after": generation,
            "causes": since,
            "difference": audit::difference(&self.orchestrator, changes.known, generation),
        });
        match changes.audit.note("elsewhere", what) {
            Ok(()) => changes.known = generation,
            Err(error) => {
                tracing::error!(%error, "a change that came by another way was not written down");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody may use a route.
    pub(crate) fn permit(
        &self,
        identity: &Identity,
        route: &Route,
        parameters: &HashMap<String, String>,
    ) -> Result<(), Answer> {
        let refused = |detail: String| Err(Answer::problem(403, detail));
        if let Some(role) = route.role
            && identity.role < role
        {
            return refused(format!("this needs the role {role}, not {}", identity.role));
        }
        if identity.scope.is_everything() {
            return Ok(());
        }
        let id = parameters.get("id").map_or("", String::as_str);
        match route.reach {
            Reach::Nothing | Reach::Listed => Ok(()),
            Reach::Pipeline if identity.scope.holds(id) => Ok(()),
            Reach::Pipeline => refused(format!("the pipeline {id:?} is out of reach")),
            Reach::Everything => {
                refused("this is about all pipelines, and some are out of reach".to_owned())
            }
            Reach::Module => {
                let modules = self.orchestrator.modules();
                let mut modules = modules.iter();
                let users = modules.find(|module| module.id == id);
                let users = users.map_or(&[][..], |module| &module.used_by);
                let within = |user: &String| identity.scope.holds(user);
                let enough = if route.changes() {
                    !users.is_empty() && users.iter().all(within)
                } else {
                    users.iter().any(within)
                };
                if enough {
                    Ok(())
                } else {
                    refused(format!(
                        "the module {id:?} is not of pipelines within reach"
                    ))
                }
            }
        }
    }

    /// Runs the operation of a call.
    pub(crate) fn perform(&self, call: &Call) -> Answer {
        let is_tried = call.query("dry_run") == Some("true");
        match call.route.effect() {
            Effect::None => run(|| self.operate(call)),
            Effect::Change => self.change(call, is_tried),
            Effect::Act if is_tried => run(|| self.operate(call)),
            Effect::Act => self.act(call),
        }
    }

    fn operate(&self, call: &Call) -> Answer {
        (call.route.operation)(self, call).unwrap_or_else(|refused| refused)
    }

    /// Makes a change of the configuration, or tries it.
    fn change(&self, call: &Call, is_tried: bool) -> Answer {
        let mut changes = self.lock();
        if let Err(refused) = self.may_begin(&changes, call) {
            return refused;
        }
        if is_tried {
            return run(|| self.operate_within_reach(call));
        }
        self.notice(&mut changes);
        let before = self.orchestrator.generation();
        let begun = match self.write_beginning(&mut changes, call) {
            Ok(begun) => begun,
            Err(refused) => return refused,
        };
        let answer = run(|| self.operate_within_reach(call));
        // Before it is said to be done, so that what was done is there after it.
        self.keep(&mut changes);
        if answer.status == 200 {
            // Files may be loaded again while a change is built, so the latest generation need not be its own, nor the one before it the one that was seen.
            let after = answer.generation().unwrap_or(before);
            let generations = self.orchestrator.generations();
            let earlier = generations.iter().map(|kept| kept.generation);
            let previous = match after > before {
                true => earlier.filter(|kept| *kept < after).max().unwrap_or(before),
                false => before,
            };
            self.notice_until(&mut changes, previous);
            let what = json!({
                "generation_before": previous,
                "generation_after": after,
                "difference": audit::difference(&self.orchestrator, previous, after),
            });
            changes.audit.end(begun, "done", what);
            changes.known = changes.known.max(after);
        } else {
            write_refusal(&mut changes, begun, &answer);
        }
        // Of a mistake in the program nobody knows how far it came: what it changed is found by looking.
        self.notice(&mut changes);
        answer
    }

    /// Does something that changes no configuration and takes its time: changes may be made meanwhile.
    fn act(&self, call: &Call) -> Answer {
        let begun = {
            let mut changes = self.lock();
            let begun = self
                .may_begin(&changes, call)
                .and_then(|()| self.write_beginning(&mut changes, call));
            match begun {
                Ok(begun) => begun,
                Err(refused) => return refused,
            }
        };
        let answer = run(|| self.operate(call));
        let mut changes = self.lock();
        if answer.status == 200 {
            changes.audit.end(begun, "done", answer.for_the_log());
        } else {
            write_refusal(&mut changes, begun, &answer);
        }
        answer
    }

    /// Once more what was settled before the body came, which takes its time.
    fn may_begin(&self, changes: &Changes, call: &Call) -> Result<(), Answer> {
        if changes.is_closed {
            return Err(Answer::problem(503, "the process is ending"));
        }
        let mut identity = call.identity.iter();
        if identity.all(|identity| self.gate.still_believes(identity)) {
            return Ok(());
        }
        let detail = "this token or certificate was taken back meanwhile";
        Err(Answer::problem(401, detail).header("www-authenticate", "Bearer"))
    }

    /// On the disk before anything happens.
    fn write_beginning(&self, changes: &mut Changes, call: &Call) -> Result<u64, Answer> {
        let body = json!({
            "bytes": call.body.len(),
            "content_type": call.content_type,
            "sha256": hex(&Sha256::digest(&call.body)),
        });
        let generation = self.orchestrator.generation();
        let begun = changes.audit.begin(&call.attempt, generation, body);
        begun.map_err(|error| {
            tracing::error!(%error, "a change was refused because it cannot be written down");
            Answer::problem(507, format!("nothing is changed unseen: {error}"))
        })
    }

    /// Makes a change only as long as what it is about is within reach. Which pipelines use a module is a matter of the configuration, so
    /// the change is held to the generation in which it was looked up.
    fn operate_within_reach(&self, call: &Call) -> Answer {
        let confined = call.identity.as_ref().filter(|identity| {
            call.route.reach == Reach::Module && !identity.scope.is_everything()
        });
        let Some(identity) = confined else {
            return self.operate(call);
        };
        for _ in 0..ATTEMPTS {
            let generation = self.orchestrator.generation();
            if let Err(refused) = self.permit(identity, call.route, call.parameters()) {
                return refused;
            }
            let answer = match call.expected_generation() {
                Some(_) => self.operate(call),
                None => self.operate(&call.expecting(generation)),
            };
            let is_another = answer.status == 412 && call.expected_generation().is_none();
            if !is_another {
                return answer;
            }
        }
        Answer::problem(503, "the configuration keeps changing")
    }

    /// Writes down that somebody was not let through.
    pub(crate) async fn refuse(self: &Arc<Self>, attempt: Attempt, answer: &Answer) {
        let (site, status, reason) = (self.clone(), answer.status, answer.detail());
        // A change that is being made holds the log, and the disk takes its time.
        let writing = tokio::task::spawn_blocking(move || {
            site.lock().audit.refused(&attempt, status, &reason);
        });
        let _ = writing.await;
    }
}

/// A mistake in the program is an answer too, so that the log says what became of what had begun.
fn run(operation: impl FnOnce() -> Answer) -> Answer {
    catch_unwind(AssertUnwindSafe(operation)).unwrap_or_else(|_| {
        tracing::error!("a request met a mistake in the program");
        Answer::problem(500, "this request met a mistake in the program")
    })
}

fn write_refusal(changes: &mut Changes, begun: u64, answer: &Answer) {
    let event = if answer.status == 500 {
        "failed"
    } else {
        "refused"
    };
    let what = json!({ "status": answer.status, "reason": answer.detail() });
    changes.audit.end(begun, event, what);
}
