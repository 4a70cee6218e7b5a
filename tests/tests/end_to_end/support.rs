//! Running a configuration on a file, and golden files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use etl_broker_adapter::file::{FileSink, FileSource};
use etl_broker_adapter::{AdapterUrl, Counts, Runner, RunnerOptions};
use etl_config::{LoadOptions, load};
use etl_orchestrator::{Options, Orchestrator};

use crate::guests;

/// Where the files of these tests are.
pub fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/end_to_end")
        .join(name)
}

/// The folder of shared test data, or `None` after saying what is skipped.
pub fn shared_data(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("ETL_TEST_DATA").map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: {test}: set ETL_TEST_DATA");
    }
    found
}

/// An engine that runs this configuration with the example modules.
pub fn engine(configuration: &Path, lanes: usize) -> Arc<Orchestrator> {
    let options = LoadOptions::isolated().modules_dir(guests::directory());
    let loaded = load(configuration, &options).unwrap_or_else(|report| panic!("{report}"));
    let mut options = Options::default();
    options.lanes = Some(lanes);
    Orchestrator::start(loaded, options).unwrap_or_else(|report| panic!("{report}"))
}

/// Runs the records of `from` through it. Answers the counts, the output and the dead letters.
pub fn run(engine: &Arc<Orchestrator>, from: &Path, batch: usize) -> (Counts, String, String) {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let url = |path: PathBuf| -> AdapterUrl {
        format!("file:{}", path.display()).parse().expect("a URL")
    };
    let (to, failed) = (folder.path().join("out"), folder.path().join("failed"));
    let source = FileSource::open(&url(from.to_owned()), None).expect("opens");
    let sink = FileSink::create(&url(to.clone())).expect("opens");
    let dead_letters = FileSink::create(&url(failed.clone())).expect("opens");
    let mut options = RunnerOptions::default();
    options.batch = batch;
    let runner = Runner::new(
        engine.clone(),
        Box::new(source),
        Box::new(sink),
        Some(Box::new(dead_letters)),
        options,
    );
    let counters = runner.counters();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(runner.run()).expect("runs");
    let read = |path: PathBuf| fs::read_to_string(path).expect("text");
    (counters.read(), read(to), read(failed))
}

/// Compares with `golden/<name>`, or writes it where `UPDATE_GOLDEN` is set.
#[track_caller]
pub fn golden(name: &str, text: &str) {
    let path = here("golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).expect("the golden file can be written");
        return;
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; UPDATE_GOLDEN=1 writes it", path.display()));
    assert!(
        expected == text,
        "{} differs; UPDATE_GOLDEN=1 writes it anew\n--- expected\n{expected}\n--- found\n{text}",
        path.display()
    );
}
