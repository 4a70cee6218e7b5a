//! A worker of a fleet: takes its configuration from the server, swaps to each new revision, and says how it is.
//!
//! A revision that cannot be used here changes nothing; it is reported with its reason, and the next one is tried. While the server is
//! away the worker goes on with what it has.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use etl_broker_adapter::nats::NatsUrl;
use etl_broker_adapter::nats::fleet::{Bundle, Fleet, HEARTBEAT, Refusal, WorkerReport};
use etl_broker_adapter::{AdapterError, Counters};
use etl_config::{LoadOptions, Loaded, Report};
use etl_orchestrator::Orchestrator;

use crate::arguments::ConfigurationOptions;
use crate::configuration;
use crate::exit::Exit;
use crate::output::tell;
use crate::secret::{self, SecretOptions};

/// Between attempts to reach the server again.
const AGAIN: Duration = Duration::from_secs(1);

/// A worker.
pub struct Member {
    url: NatsUrl,
    fleet: Fleet,
    desk: Desk,
    report: WorkerReport,
    /// The last revision that was tried, whether or not it could be used.
    tried: u64,
    deny_warnings: bool,
    secrets: SecretOptions,
    json: bool,
}

/// A folder for configurations and modules, which goes with the worker.
struct Desk(PathBuf);

impl Desk {
    fn new() -> Result<Self, Exit> {
        let path = std::env::temp_dir().join(format!(
            "etl-fleet-{}-{}",
            std::process::id(),
            super::now_ms()
        ));
        // Nobody else looks into it or puts anything there; one that is there already is somebody else's.
        let mut folder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
        folder.create(&path).map_err(|error| {
            Exit::failed(format_args!("cannot make {}: {error}", path.display()))
        })?;
        Ok(Self(path))
    }

    fn modules(&self) -> PathBuf {
        self.0.join("modules")
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans up temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Member {
    /// Joins a fleet and loads its configuration. One that cannot be used here is reported, and ends the program.
    pub async fn join(
        url: NatsUrl,
        options: &ConfigurationOptions,
        json: bool,
    ) -> Result<(Self, Loaded), Exit> {
        let fleet = Fleet::open(&url, false).await?;
        let (host, pid) = (super::host(), std::process::id());
        let report = WorkerReport {
            worker: WorkerReport::name(&format!("{host}-{pid}")),
            host,
            pid,
            started_at: super::now_ms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            health: "starting".to_owned(),
            ..WorkerReport::default()
        };
        let mut member = Self {
            fleet,
            desk: Desk::new()?,
            report,
            tried: 0,
            deny_warnings: options.deny_warnings,
            secrets: options.secrets.clone(),
            json,
            url,
        };
        let Some((revision, bundle)) = member.fleet.current().await? else {
            return Err(Exit::failed(format_args!(
                "{}: no configuration has been pushed yet: `etl push CONFIG --to {}`",
                member.url, member.url
            )));
        };
        member.tried = revision;
        match member.load(revision, &bundle).await? {
            Ok(loaded) => Ok((member, loaded)),
            Err(report) => Err(member.refuse(&report).await),
        }
    }

    /// Says that the configuration that the worker should start with cannot be used; the exit code that goes with it.
    pub async fn refuse(&mut self, report: &Report) -> Exit {
        self.report.refused = Some(refusal(self.tried, report));
        self.tell(None, None).await;
        configuration::refuse(report, self.json)
    }

    async fn load(
        &self,
        revision: u64,
        bundle: &Bundle,
    ) -> Result<Result<Loaded, Report>, AdapterError> {
        self.fleet.download(bundle, &self.desk.modules()).await?;
        // Whoever may push says what the workers do, and not what is read and run on their machines.
        let options = LoadOptions::default()
            .deny_warnings(self.deny_warnings)
            .secrets(secret::keeper(&self.secrets))
            .secret_settings(secret::settings_of_ones_own(&self.secrets));
        bundle.load(
            &self.desk.0.join(revision.to_string()),
            &self.desk.modules(),
            &options,
        )
    }

    /// Follows the fleet until it is dropped.
    pub async fn follow(&mut self, orchestrator: Arc<Orchestrator>, counters: Arc<Counters>) {
        // What was loaded at the start is in force now.
        self.report.revision = self.tried;
        loop {
            if let Err(error) = self.watch(&orchestrator, &counters).await {
                tracing::warn!(%error, "the fleet's server is away; the present configuration goes on");
            }
            tokio::time::sleep(AGAIN).await;
            if let Ok(fleet) = Fleet::open(&self.url, false).await {
                self.fleet = fleet;
            }
        }
    }

    /// As long as the connection lasts.
    async fn watch(
        &mut self,
        orchestrator: &Arc<Orchestrator>,
        counters: &Counters,
    ) -> Result<(), AdapterError> {
        let mut news = self.fleet.watch().await?;
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.fleet.is_up() {
            let revision = tokio::select! {
                revision = news.next() => match revision {
                    Some(revision) => revision,
                    None => break,
                },
                // Should a piece of news ever be lost, the heartbeat finds it.
                _ = heartbeat.tick() => self.fleet.current().await?.map_or(0, |(revision, _)| revision),
            };
            if revision > self.tried {
                self.swap(orchestrator).await?;
            }
            self.tell(Some(orchestrator), Some(counters)).await;
        }
        Ok(())
    }

    /// Takes the present revision, if it can be used.
    async fn swap(&mut self, orchestrator: &Arc<Orchestrator>) -> Result<(), AdapterError> {
        let Some((revision, bundle)) = self.fleet.current().await? else {
            return Ok(());
        };
        let loaded = match self.load(revision, &bundle).await {
            Ok(loaded) => loaded,
            Err(error) if error.is_retryable() => return Err(error),
            // It would fail in the same way for ever, and whoever waits for this worker should learn of it.
            Err(error) => {
                tracing::error!(%error, revision, "the revision cannot be loaded");
                self.tried = revision;
                self.report.refused = Some(Refusal {
                    revision,
                    reason: error.to_string(),
                });
                return Ok(());
            }
        };
        let engine = orchestrator.clone();
        // Compiling modules takes its time, and records go on meanwhile.
        let done =
            tokio::task::spawn_blocking(move || loaded.and_then(|loaded| engine.reload(loaded)));
        let Ok(done) = done.await else {
            tracing::error!("loading a revision ended by itself");
            return Ok(());
        };
        self.tried = revision;
        let json = self.json;
        match done {
            Ok(generation) => {
                self.report.revision = revision;
                self.report.refused = None;
                if json {
                    tell!(
                        "{{\"reloaded\":true,\"revision\":{revision},\"generation\":{generation}}}"
                    );
                } else {
                    tell!("etl: revision {revision} of the fleet: generation {generation}");
                }
            }
            Err(report) => {
                configuration::refuse(&report, json);
                self.report.refused = Some(refusal(revision, &report));
                let (generation, own) = (orchestrator.generation(), self.report.revision);
                if json {
                    tell!(
                        "{{\"reloaded\":false,\"revision\":{revision},\"generation\":{generation}}}"
                    );
                } else {
                    tell!(
                        "etl: revision {revision} of the fleet cannot be used here: revision {own}, generation {generation} goes on"
                    );
                }
            }
        }
        Ok(())
    }

    /// Says how the worker is. A server that does not listen hears it next time.
    async fn tell(
        &mut self,
        orchestrator: Option<&Arc<Orchestrator>>,
        counters: Option<&Counters>,
    ) {
        self.report.at = super::now_ms();
        if let Some(orchestrator) = orchestrator {
            let health = orchestrator.health();
            self.report.generation = orchestrator.generation();
            self.report.health = health.state().to_owned();
            self.report.reasons = health
                .reasons
                .iter()
                .map(|reason| reason.message.clone())
                .collect();
        }
        if let Some(counters) = counters {
            self.report.lag = counters.lag().map(|lag| lag.records);
        }
        if let Err(error) = self.fleet.report(&self.report).await {
            tracing::debug!(%error, "the fleet's server did not take note of this worker");
        }
    }

    /// Ends the membership.
    pub async fn leave(self) {
        if let Err(error) = self.fleet.leave(&self.report.worker).await {
            tracing::debug!(%error, "the fleet's server did not take note of the end");
        }
    }
}

fn refusal(revision: u64, report: &Report) -> Refusal {
    Refusal {
        revision,
        reason: report.render(false),
    }
}
