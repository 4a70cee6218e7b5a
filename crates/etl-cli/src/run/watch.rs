//! `--watch`: loads the configuration again when its files change, those of modules among them.
//!
//! Folders are watched and not files, because editors and deployments put new files in the place of old ones. Events are gathered until
//! it has been quiet for a moment; then the contents count: the same bytes as at the last attempt are no change, so a file that is
//! touched, or a configuration that was refused, is not loaded over and over.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etl_config::Loaded;
use etl_orchestrator::Orchestrator;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::reload;
use crate::arguments::RunOptions;
use crate::configuration;
use crate::exit::Exit;

/// So long nothing may happen before the files are looked at.
const QUIET: Duration = Duration::from_millis(200);
/// So long it is waited for quiet, at most.
const LONGEST: Duration = Duration::from_secs(2);

/// What a configuration consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Files {
    files: BTreeSet<PathBuf>,
    /// A file that appears here belongs to the configuration.
    folders: BTreeSet<PathBuf>,
}

impl Files {
    fn of(loaded: &Loaded, root: &Path) -> Self {
        let modules = loaded.config.modules.iter().flat_map(|module| {
            let canary = module.canary.as_ref().map(|canary| &canary.file);
            std::iter::once(&module.file).chain(canary)
        });
        let mut files: BTreeSet<PathBuf> =
            loaded.files.iter().chain(modules).map(absolute).collect();
        let root = absolute(&root.to_owned());
        let mut folders = BTreeSet::new();
        if root.is_dir() {
            files.insert(root.join("etl.toml"));
            folders.insert(root.join("pipelines"));
        } else {
            files.insert(root);
        }
        Self { files, folders }
    }

    /// Whether an event at this path may concern the configuration.
    fn concerns(&self, path: &Path) -> bool {
        // A folder that is mounted from elsewhere is exchanged as a whole, by a link whose name begins so.
        let exchanged = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(".."));
        exchanged
            || self.files.contains(path)
            || self.folders.contains(path)
            || path
                .parent()
                .is_some_and(|parent| self.folders.contains(parent) && is_document(path))
    }

    /// The folders to watch.
    fn watched(&self) -> BTreeSet<PathBuf> {
        let parents = self
            .files
            .iter()
            .chain(&self.folders)
            .filter_map(|file| file.parent());
        let folders = parents.map(Path::to_owned);
        folders.chain(self.folders.iter().cloned()).collect()
    }

    /// What is in the files now, as far as it takes to see a change.
    fn contents(&self) -> BTreeMap<PathBuf, Option<u64>> {
        let listed = self
            .folders
            .iter()
            .filter_map(|folder| fs::read_dir(folder).ok());
        let found = listed
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_document(path));
        let files = self.files.iter().cloned().chain(found);
        files
            .map(|file| {
                let digest = fs::read(&file).ok().map(|bytes| {
                    let mut hasher = DefaultHasher::new();
                    bytes.hash(&mut hasher);
                    hasher.finish()
                });
                (file, digest)
            })
            .collect()
    }
}

fn absolute(path: &PathBuf) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.clone())
}

fn is_document(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    matches!(extension, Some("toml" | "json"))
}

/// Watches the files of a configuration.
pub struct Watch {
    options: RunOptions,
    orchestrator: Arc<Orchestrator>,
    watcher: RecommendedWatcher,
    files: Arc<Mutex<Files>>,
    watched: BTreeSet<PathBuf>,
    event: Arc<Notify>,
    contents: BTreeMap<PathBuf, Option<u64>>,
}

impl Watch {
    /// Begins to watch. `loaded` is the configuration in force.
    pub fn begin(
        options: &RunOptions,
        orchestrator: Arc<Orchestrator>,
        loaded: &WatchedFiles,
    ) -> Result<Self, Exit> {
        let files = Arc::new(Mutex::new(loaded.0.clone()));
        let event = Arc::new(Notify::new());
        let (heard, told) = (files.clone(), event.clone());
        let watcher = notify::recommended_watcher(move |result: notify::Result<Event>| {
            let files = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let concerns = match result {
                Ok(event) if matches!(event.kind, EventKind::Access(_)) => false,
                Ok(event) => event.paths.iter().any(|path| files.concerns(path)),
                // Events were lost: better to look.
                Err(_) => true,
            };
            if concerns {
                told.notify_one();
            }
        })
        .map_err(|error| Exit::failed(format_args!("cannot watch files: {error}")))?;
        let mut watch = Self {
            options: options.clone(),
            orchestrator,
            watcher,
            files,
            watched: BTreeSet::new(),
            event,
            contents: loaded.1.clone(),
        };
        watch.follow(&loaded.0);
        Ok(watch)
    }

    /// Watches the folders of these files, and no others.
    fn follow(&mut self, files: &Files) {
        let wanted = files.watched();
        for folder in self.watched.difference(&wanted) {
            // A folder that is gone is not watched any more.
            let _ = self.watcher.unwatch(folder);
        }
        self.watched.retain(|folder| wanted.contains(folder));
        for folder in wanted {
            if self.watched.contains(&folder) {
                continue;
            }
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(folder);
                }
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "cannot watch a folder");
                }
            }
        }
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files.clone();
    }

    /// Watches for ever.
    pub async fn run(mut self) {
        loop {
            self.event.notified().await;
            let latest = Instant::now() + LONGEST;
            while timeout_at(latest, timeout(QUIET, self.event.notified()))
                .await
                .is_ok_and(|event| event.is_ok())
            {}
            self.look().await;
        }
    }

    /// Loads the configuration again if a file of it has changed.
    async fn look(&mut self) {
        let mut files = self
            .files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut contents = files.contents();
        if contents == self.contents {
            return;
        }
        // It may have other modules now, in other folders. They are looked at before they are loaded: what changes meanwhile is news next time.
        if let Ok(loaded) = configuration::load(&self.options.configuration) {
            files = Files::of(&loaded, &self.options.configuration.config);
            for (file, digest) in files.contents() {
                contents.entry(file).or_insert(digest);
            }
            contents.retain(|file, digest| files.has(file, digest.is_some()));
        }
        reload(self.orchestrator.clone(), self.options.clone()).await;
        self.follow(&files);
        self.contents = contents;
        // Something may have come while it was loaded.
        self.event.notify_one();
    }
}

impl Files {
    /// Whether [`contents`](Self::contents) lists a file: one in a folder only as long as it is there.
    fn has(&self, file: &Path, is_there: bool) -> bool {
        let parent = file.parent();
        self.files.contains(file)
            || is_there
                && is_document(file)
                && parent.is_some_and(|parent| self.folders.contains(parent))
    }
}

/// The files of a configuration as they were when it was loaded.
pub struct WatchedFiles(Files, BTreeMap<PathBuf, Option<u64>>);

impl WatchedFiles {
    /// To be taken between reading the configuration and building it: what changes later is loaded again, once too often at worst.
    pub fn of(loaded: &Loaded, options: &RunOptions) -> Self {
        let files = Files::of(loaded, &options.configuration.config);
        let contents = files.contents();
        Self(files, contents)
    }
}
