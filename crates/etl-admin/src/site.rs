//! From a request to an operation: which route, who asks, may they, and what they sent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use etl_config::{LoadOptions, Loaded, Report, SecretError};
use etl_orchestrator::Orchestrator;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::access::{Doubt, Gate, Identity, hex};
use crate::audit::{self, Attempt, AuditLog};
use crate::call::Call;
use crate::http::{Answer, Handler, Head, Limits, Peer};
use crate::routes::{ROUTES, Reach, Route, Takes};
use crate::secrets::Key;

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
    gate: Gate,
    limits: Limits,
    router: matchit::Router<HashMap<&'static str, &'static Route>>,
    /// One change at a time, and none once the end has begun.
    changes: Mutex<Changes>,
}

struct Changes {
    is_closed: bool,
    audit: AuditLog,
    /// The generation that was in force when the log was last written.
    known: u64,
}

impl Site {
    pub(crate) fn new(
        orchestrator: Arc<Orchestrator>,
        host: Box<dyn Host>,
        gate: Gate,
        limits: Limits,
        audit: AuditLog,
    ) -> Result<Self, matchit::InsertError> {
        let mut by_path: HashMap<&str, HashMap<&str, &Route>> = HashMap::new();
        for route in ROUTES {
            by_path
                .entry(route.path)
                .or_default()
                .insert(route.method, route);
        }
        let mut router = matchit::Router::new();
        for (path, methods) in by_path {
            router.insert(path, methods)?;
        }
        let changes = Changes {
            is_closed: false,
            audit,
            known: orchestrator.generation(),
        };
        Ok(Self {
            orchestrator,
            host,
            gate,
            limits,
            router,
            changes: Mutex::new(changes),
        })
    }

    /// Waits until the change that is being made is made, and lets no other begin.
    pub(crate) fn close(&self) {
        let mut changes = self.lock();
        changes.is_closed = true;
        self.notice(&mut changes);
    }

    /// Writes down what was changed by other ways than the API.
    pub(crate) fn look_around(&self) {
        self.notice(&mut self.lock());
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The route of a request, and the parameters in its path.
    fn find(&self, head: &Head) -> Result<(&'static Route, HashMap<String, String>), Answer> {
        let nothing = || {
            let detail = "there is nothing here; /api/v1/openapi.json says what there is";
            Answer::problem(404, detail)
        };
        let found = self.router.at(&head.path).map_err(|_| nothing())?;
        let method = match head.method.as_str() {
            "HEAD" => "GET",
            method => method,
        };
        let Some(route) = found.value.get(method).copied() else {
            let mut allowed: Vec<&str> = found.value.keys().copied().collect();
            allowed.sort_unstable();
            let allowed = allowed.join(", ");
            let detail = format!("only {allowed} here");
            return Err(Answer::problem(405, detail).header("allow", allowed));
        };
        let parameters = found.params.iter().map(|(name, value)| {
            let value = crate::http::decoded(value).filter(|value| is_plain(value));
            Some((name.to_owned(), value?))
        });
        // An id is never a path: what has to be encoded to be one is nobody's.
        let parameters: Option<_> = parameters.collect();
        Ok((route, parameters.ok_or_else(nothing)?))
    }

    async fn identify(&self, peer: &Peer, head: &Head) -> Result<Identity, Answer> {
        let unauthorized = |detail: &str, challenge: &str| {
            Answer::problem(401, detail).header("www-authenticate", challenge)
        };
        let doubt = match self.gate.identify(head.header("authorization"), peer).await {
            Ok(identity) => return Ok(identity),
            Err(doubt) => doubt,
        };
        Err(match &doubt {
            Doubt::Nobody => unauthorized(
                "a token is needed: authorization: Bearer etl_…; `etl admin token create` makes one",
                "Bearer",
            ),
            Doubt::Unknown => unauthorized(
                "this token or certificate is not known here",
                "Bearer error=\"invalid_token\"",
            ),
            Doubt::Over(_, state) => unauthorized(
                &format!("this token or certificate is {state}"),
                "Bearer error=\"invalid_token\"",
            ),
            Doubt::LockedOut(left) => {
                let seconds = left.as_secs() + 1;
                let detail = format!("too many wrong tokens came from there; again in {seconds} s");
                Answer::problem(429, detail).header("retry-after", seconds.to_string())
            }
            Doubt::Unreadable => Answer::problem(503, "it cannot be read who may come in"),
        })
    }

    /// Whether somebody may use a route.
    fn permit(
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
    fn perform(&self, call: &Call) -> Answer {
        let run = || (call.route.operation)(self, call).unwrap_or_else(|refused| refused);
        if !call.route.changes() {
            return run();
        }
        let mut changes = self.lock();
        if changes.is_closed {
            return Answer::problem(503, "the process is ending");
        }
        if call.change().dry_run {
            return run();
        }
        self.notice(&mut changes);
        let before = self.orchestrator.generation();
        let body = json!({
            "bytes": call.body.len(),
            "content_type": call.content_type,
            "sha256": hex(&Sha256::digest(&call.body)),
        });
        // On the disk before anything happens.
        let begun = match changes.audit.begin(&call.attempt(), before, body) {
            Ok(begun) => begun,
            Err(error) => {
                tracing::error!(%error, "a change was refused because it cannot be written down");
                return Answer::problem(507, format!("nothing is changed unseen: {error}"));
            }
        };
        let answer = run();
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
            self.notice(&mut changes);
        } else {
            let what = json!({ "status": answer.status, "reason": answer.detail() });
            changes.audit.end(begun, "refused", what);
        }
        answer
    }

    /// Writes down that somebody was not let through.
    async fn refuse(self: &Arc<Self>, attempt: Attempt, answer: &Answer) {
        let (site, status, reason) = (self.clone(), answer.status, answer.detail());
        // A change that is being made holds the log, and the disk takes its time.
        let writing = tokio::task::spawn_blocking(move || {
            site.lock().audit.refused(&attempt, status, &reason);
        });
        let _ = writing.await;
    }
}

impl Site {
    /// Settles everything that comes before the body. Who it turns out to be goes into the attempt.
    async fn admit_as(
        &self,
        peer: &Peer,
        head: Head,
        attempt: &mut Attempt,
    ) -> Result<(Call, usize), Answer> {
        let (route, parameters) = match self.find(&head) {
            Ok(found) => found,
            // What there is and what there is not is told to those who may know.
            Err(nothing) => {
                self.identify(peer, &head).await?;
                return Err(nothing);
            }
        };
        let identity = match route.role {
            None => None,
            Some(_) => Some(self.identify(peer, &head).await?),
        };
        if let Some(identity) = &identity {
            attempt.who = Some(identity.name.clone());
            attempt.role = Some(identity.role.name());
            self.permit(identity, route, &parameters)?;
        }
        let call = Call::new(route, parameters, identity, &head, attempt.from.clone())?;
        let limit = match route.takes {
            Takes::Nothing => 0,
            Takes::Document | Takes::Json(_) => self.limits.document_bytes,
            Takes::Wasm => self.limits.module_bytes,
        };
        Ok((call, limit))
    }
}

/// An id that can be one: not a path, not hidden, no control characters.
fn is_plain(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 255
        && !id.starts_with('.')
        && !id.contains(['/', '\\'])
        // It goes into a document in which this would be a variable.
        && !id.contains("${")
        && !id.chars().any(char::is_control)
}

impl Handler for Site {
    type Admitted = Call;

    async fn admit(self: &Arc<Self>, peer: &Peer, head: Head) -> Result<(Call, usize), Answer> {
        let mut attempt = Attempt {
            who: None,
            role: None,
            from: peer.address.to_string(),
            what: format!("{} {}", head.method, head.path),
        };
        let admitted = self.admit_as(peer, head, &mut attempt).await;
        if let Err(answer) = &admitted
            && matches!(answer.status, 401 | 403)
        {
            self.refuse(attempt, answer).await;
        }
        admitted
    }

    async fn answer(self: Arc<Self>, mut call: Call, body: Vec<u8>) -> Answer {
        call.body = body;
        let performed = tokio::task::spawn_blocking(move || self.perform(&call)).await;
        performed.unwrap_or_else(|error| {
            tracing::error!(%error, "a request broke its thread");
            Answer::problem(500, "this request met a mistake in the program")
        })
    }
}
