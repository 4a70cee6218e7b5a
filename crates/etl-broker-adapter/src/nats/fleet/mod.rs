//! Fleets: workers that take their configuration from the server, and say there how they are.
//!
//! A fleet `F`, as in `nats://HOST:PORT/F`, is a bucket `F` with the configuration under the key `config`, an object store `F-modules` with
//! each module under its SHA-256, and a bucket `F-workers` in which every worker keeps one entry alive. A revision is what the server
//! counts: each configuration that is pushed has a higher one than those before it.
//!
//! A push uploads modules first and the configuration last, so a worker that sees a configuration finds its modules. Two
//! pushes at once: the second one is refused, and changes nothing.

mod bundle;
mod worker;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::context::{CreateKeyValueErrorKind, KeyValueErrorKind};
use async_nats::jetstream::kv::{self, Operation, UpdateErrorKind};
use async_nats::jetstream::object_store::{self, GetErrorKind, ObjectStore};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;

pub use bundle::{Bundle, sha256};
pub use worker::{Refusal, WorkerReport};

use super::connection::{Connection, causes};
use super::url::NatsUrl;
use crate::{AdapterError, AdapterErrorKind};

/// The key of the configuration in its bucket.
const CONFIG: &str = "config";

/// Revisions of the configuration that are kept.
const HISTORY: i64 = 16;

/// A worker that has said nothing for so long is gone.
pub const GONE_AFTER: Duration = Duration::from_secs(15);

/// How often a worker says how it is.
pub const HEARTBEAT: Duration = Duration::from_secs(3);

/// A fleet, over one connection.
pub struct Fleet {
    url: NatsUrl,
    name: String,
    connection: Connection,
    config: kv::Store,
    workers: kv::Store,
    modules: ObjectStore,
}

/// What a push did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// The revision that workers will have.
    pub revision: u64,
    /// Whether it is a new one. A configuration that is there already is not pushed again.
    pub is_new: bool,
    /// Modules that were uploaded; the others were there.
    pub uploaded: usize,
}

impl Fleet {
    /// Connects to a fleet. `create`: makes one that is missing.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or is older than 2.10; there is no such fleet.
    pub async fn open(url: &NatsUrl, create: bool) -> Result<Self, AdapterError> {
        let name = url.name.clone().ok_or_else(|| {
            super::url::invalid(format!(
                "{url}: it names no fleet: write nats://HOST:PORT/FLEET"
            ))
        })?;
        let connection = Connection::open(url, "fleet").await?;
        if !connection.client.is_server_compatible(2, 10, 0) {
            return Err(AdapterError::new(
                AdapterErrorKind::Unsupported,
                format!(
                    "{url}: fleets need nats-server 2.10 or later, and this one is {}; streams and consumers work on it",
                    connection.client.server_info().version
                ),
            ));
        }
        let config = kv::Config {
            bucket: name.clone(),
            description: "the configuration of an etl fleet".to_owned(),
            history: HISTORY,
            ..kv::Config::default()
        };
        let workers = kv::Config {
            bucket: format!("{name}-workers"),
            description: "the workers of an etl fleet".to_owned(),
            history: 1,
            max_age: GONE_AFTER,
            ..kv::Config::default()
        };
        let modules = object_store::Config {
            bucket: format!("{name}-modules"),
            description: Some("the modules of an etl fleet".to_owned()),
            ..object_store::Config::default()
        };
        let fleet = Opening {
            url,
            name: &name,
            connection: &connection,
            create,
        };
        Ok(Self {
            config: fleet.bucket(config).await?,
            workers: fleet.bucket(workers).await?,
            modules: fleet.store(modules).await?,
            url: url.clone(),
            name,
            connection,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the connection can still be used.
    pub fn is_up(&self) -> bool {
        self.connection.is_up()
    }

    /// Uploads the modules that are missing, then the configuration.
    ///
    /// # Errors
    ///
    /// Somebody else pushed at the same time; the configuration is too large; the server cannot store it.
    pub async fn push(&self, bundle: &Bundle) -> Result<Pushed, AdapterError> {
        let present = self.entry().await?;
        let uploaded = self.upload(bundle).await?;
        if let Some((revision, present)) = &present
            && bundle.is_same(present)
        {
            return Ok(Pushed {
                revision: *revision,
                is_new: false,
                uploaded,
            });
        }
        let text = bundle.to_json();
        let most = self
            .connection
            .client
            .server_info()
            .max_payload
            .saturating_sub(4_096);
        if text.len() > most {
            return Err(AdapterError::new(
                AdapterErrorKind::Unsupported,
                format!(
                    "{}: the configuration has {} bytes, over the {most} that the server takes in one message: raise its max_payload",
                    self.url,
                    text.len()
                ),
            ));
        }
        let before = self.last_revision().await?;
        let expected = match &present {
            Some((revision, _)) => *revision,
            None => before,
        };
        let updated = self.config.update(CONFIG, text.into(), expected).await;
        let revision = updated.map_err(|error| match error.kind() {
            UpdateErrorKind::WrongLastRevision => AdapterError::new(
                AdapterErrorKind::InUse,
                format!(
                    "{}: somebody else pushed at the same time; look at it, and push again",
                    self.url
                ),
            ),
            _ => self.unavailable("the configuration could not be stored", &error),
        })?;
        Ok(Pushed {
            revision,
            is_new: true,
            uploaded,
        })
    }

    /// Modules are named by what they are, so one that is there is the same.
    async fn upload(&self, bundle: &Bundle) -> Result<usize, AdapterError> {
        let mut uploaded = 0;
        for (sha256, bytes) in bundle.contents() {
            let there = match self.modules.info(sha256).await {
                Ok(info) => !info.deleted && info.size == bytes.len(),
                Err(_) => false,
            };
            if !there {
                let stored = self.modules.put(sha256.as_str(), &mut &**bytes).await;
                stored.map_err(|error| self.unavailable("a module could not be stored", &error))?;
                uploaded += 1;
            }
        }
        Ok(uploaded)
    }

    /// The revision in force and what it is; `None`: nothing was pushed.
    ///
    /// # Errors
    ///
    /// The server does not answer; what is there is not a configuration.
    pub async fn current(&self) -> Result<Option<(u64, Bundle)>, AdapterError> {
        self.entry().await
    }

    async fn entry(&self) -> Result<Option<(u64, Bundle)>, AdapterError> {
        let entry = self.config.entry(CONFIG).await;
        let entry = entry
            .map_err(|error| self.unavailable("the configuration could not be read", &error))?;
        let Some(entry) = entry.filter(|entry| entry.operation == Operation::Put) else {
            return Ok(None);
        };
        let bundle = Bundle::from_json(&entry.value).map_err(|error| {
            AdapterError::new(
                AdapterErrorKind::Corrupt,
                format!(
                    "{}: what is under `{CONFIG}` is not a configuration: {error}",
                    self.url
                ),
            )
        })?;
        Ok(Some((entry.revision, bundle)))
    }

    /// Of the key, whatever it holds; 0 where it never held anything.
    async fn last_revision(&self) -> Result<u64, AdapterError> {
        let entry = self.config.entry(CONFIG).await;
        let entry = entry
            .map_err(|error| self.unavailable("the configuration could not be read", &error))?;
        Ok(entry.map_or(0, |entry| entry.revision))
    }

    /// Waits until the configuration may be another one. Answers at once with the present one when it is called first.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub async fn watch(&self) -> Result<Watched, AdapterError> {
        let watch = self.config.watch_with_history(CONFIG).await;
        let watch = watch
            .map_err(|error| self.unavailable("the configuration cannot be watched", &error))?;
        Ok(Watched(watch))
    }

    /// Downloads the modules that `folder` does not have yet, each as `SHA256.wasm`.
    ///
    /// # Errors
    ///
    /// One is missing or is not what its name says; the folder cannot be written.
    pub async fn download(&self, bundle: &Bundle, folder: &Path) -> Result<(), AdapterError> {
        std::fs::create_dir_all(folder).map_err(|error| io(folder, error))?;
        for wanted in bundle.hashes().into_iter().collect::<HashSet<_>>() {
            let file = folder.join(format!("{wanted}.wasm"));
            if file.exists() {
                continue;
            }
            let failed = |kind, why: String| {
                AdapterError::new(
                    kind,
                    format!("{}: the module {wanted} cannot be had: {why}", self.url),
                )
            };
            let object = self.modules.get(wanted).await;
            let mut object = object.map_err(|error| match error.kind() {
                GetErrorKind::NotFound => failed(AdapterErrorKind::NotFound, causes(&error)),
                _ if is_missing(&error) => failed(AdapterErrorKind::NotFound, causes(&error)),
                _ => failed(AdapterErrorKind::Unavailable, causes(&error)),
            })?;
            let mut bytes = Vec::new();
            // A server that goes in the middle of it has the module when it is back.
            let read = object.read_to_end(&mut bytes).await;
            let whole = match &read {
                Err(error) if error.kind() != std::io::ErrorKind::InvalidData => {
                    return Err(failed(AdapterErrorKind::Unavailable, error.to_string()));
                }
                read => read.is_ok() && sha256(&bytes) == wanted,
            };
            if !whole {
                let why = "its bytes are others".to_owned();
                return Err(failed(AdapterErrorKind::Corrupt, why));
            }
            // Under another name first: a file that is there is whole.
            let partial = folder.join(format!("{wanted}.part"));
            std::fs::write(&partial, &bytes).map_err(|error| io(&partial, error))?;
            std::fs::rename(&partial, &file).map_err(|error| io(&file, error))?;
        }
        Ok(())
    }

    /// Says how a worker is. Said again within [`GONE_AFTER`], it stays in the list.
    ///
    /// # Errors
    ///
    /// The server does not take note.
    pub async fn report(&self, report: &WorkerReport) -> Result<(), AdapterError> {
        let told = self
            .workers
            .put(&report.worker, report.to_json().into())
            .await;
        told.map_err(|error| self.unavailable("the worker's entry could not be written", &error))?;
        Ok(())
    }

    /// Takes a worker that ends out of the list.
    ///
    /// # Errors
    ///
    /// The server does not take note; the entry goes by itself.
    pub async fn leave(&self, worker: &str) -> Result<(), AdapterError> {
        let gone = self.workers.purge(worker).await;
        gone.map_err(|error| self.unavailable("the worker's entry could not be removed", &error))
    }

    /// Every worker that has said something lately, by name.
    ///
    /// # Errors
    ///
    /// The server does not answer.
    pub async fn workers(&self) -> Result<Vec<WorkerReport>, AdapterError> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            self.unavailable("the workers could not be listed", error)
        };
        let keys = self.workers.keys().await.map_err(|error| failed(&error))?;
        let keys: Vec<String> = keys.try_collect().await.map_err(|error| failed(&error))?;
        let mut workers = Vec::new();
        for key in keys {
            let entry = self
                .workers
                .entry(&key)
                .await
                .map_err(|error| failed(&error))?;
            // Between the list and the look one may have gone.
            if let Some(entry) = entry
                && entry.operation == Operation::Put
                && let Some(report) = WorkerReport::from_json(&entry.value)
            {
                workers.push(report);
            }
        }
        workers.sort_by(|a, b| a.worker.cmp(&b.worker));
        Ok(workers)
    }

    fn unavailable(&self, what: &str, error: &(dyn std::error::Error + 'static)) -> AdapterError {
        AdapterError::new(
            AdapterErrorKind::Unavailable,
            format!("{}: {what}: {}", self.url, causes(error)),
        )
    }
}

/// News of a fleet's configuration.
pub struct Watched(kv::Watch);

impl Watched {
    /// Waits for news; the revision. `None`: there will be no more over this connection.
    pub async fn next(&mut self) -> Option<u64> {
        match self.0.next().await {
            Some(Ok(entry)) => Some(entry.revision),
            Some(Err(_)) | None => None,
        }
    }
}

/// What opening the parts of a fleet takes.
struct Opening<'a> {
    url: &'a NatsUrl,
    name: &'a str,
    connection: &'a Connection,
    create: bool,
}

impl Opening<'_> {
    async fn bucket(&self, config: kv::Config) -> Result<kv::Store, AdapterError> {
        let jetstream = &self.connection.jetstream;
        match jetstream.get_key_value(&config.bucket).await {
            Ok(bucket) => Ok(bucket),
            Err(error) if error.kind() == KeyValueErrorKind::GetBucket && is_missing(&error) => {
                if !self.create {
                    return Err(self.missing());
                }
                jetstream.create_key_value(config).await.map_err(|error| {
                    let kind = match error.kind() {
                        CreateKeyValueErrorKind::TimedOut => AdapterErrorKind::Unavailable,
                        _ => AdapterErrorKind::Io,
                    };
                    self.cannot_make(kind, &error)
                })
            }
            Err(error) => Err(super::stream::unanswered(self.url, "the fleet", &error)),
        }
    }

    async fn store(&self, config: object_store::Config) -> Result<ObjectStore, AdapterError> {
        let jetstream = &self.connection.jetstream;
        match jetstream.get_object_store(&config.bucket).await {
            Ok(store) => Ok(store),
            Err(error) if is_missing(&error) => {
                if !self.create {
                    return Err(self.missing());
                }
                let made = jetstream.create_object_store(config).await;
                made.map_err(|error| self.cannot_make(AdapterErrorKind::Io, &error))
            }
            Err(error) => Err(super::stream::unanswered(self.url, "the fleet", &error)),
        }
    }

    fn missing(&self) -> AdapterError {
        AdapterError::new(
            AdapterErrorKind::NotFound,
            format!(
                "{}: there is no fleet `{}`: `etl push CONFIG --to {} --create` makes it",
                self.url, self.name, self.url
            ),
        )
    }

    fn cannot_make(
        &self,
        kind: AdapterErrorKind,
        error: &(dyn std::error::Error + 'static),
    ) -> AdapterError {
        AdapterError::new(
            kind,
            format!(
                "{}: the fleet `{}` cannot be made: {}",
                self.url,
                self.name,
                causes(error)
            ),
        )
    }
}

/// Whether the server said that the stream behind a bucket is not there.
fn is_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    let text = causes(error).to_lowercase();
    text.contains("stream not found") || text.contains("10059")
}

fn io(path: &Path, error: std::io::Error) -> AdapterError {
    AdapterError::from_io(format_args!("cannot write {}", path.display()), error)
}
