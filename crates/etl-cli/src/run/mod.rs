//! `etl run`: a source, the engine, a sink, and somebody watching.

mod admin;
mod letters;
mod membership;
mod metrics;
mod progress;
mod signals;
mod summary;
mod waiting;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use etl_broker_adapter::{AdapterError, Ended, RunUrls, Runner, RunnerOptions, open};
use etl_config::TopicTemplate;
use etl_orchestrator::{Options, Orchestrator};
use tokio::runtime::Runtime;

use crate::arguments::RunOptions;
use crate::configuration;
use crate::exit::Exit;
use crate::output::{tell, tell_text};
pub use admin::GENERATIONS;
use membership::Membership;
use signals::{Request, Signals};
use summary::Summary;
use watch::{Watch, WatchedFiles};

/// Runs the command.
pub fn run(options: &RunOptions) -> Result<(), Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Exit::failed(format_args!("cannot start threads: {error}")))?;
    let result = run_on(&runtime, options);
    // A read from a terminal or a pipe cannot be interrupted, and must not keep the program.
    runtime.shutdown_background();
    result
}

fn run_on(runtime: &Runtime, options: &RunOptions) -> Result<(), Exit> {
    let (mut membership, loaded) = Membership::join(runtime, options)?;
    if !options.quiet && !options.json {
        configuration::warn(&loaded.warnings);
    }
    // Before the engine, so that it is there when the engine first hands its figures over.
    let collects = options.metrics.is_some() || options.admin.is_some();
    let recorder = collects.then(metrics::install).transpose()?;
    let dead_letter_topic = loaded.config.dead_letter.topic.clone();
    let mut engine_options = Options::default();
    engine_options.lanes = options.lanes.map(|lanes| lanes as usize);
    let archive = admin::archive(options, &loaded)?;
    engine_options.first_generation = archive.as_ref().map(|archive| archive.next_generation());
    let warned = loaded.warnings.len();
    let watched = options.watch.then(|| WatchedFiles::of(&loaded, options));
    let orchestrator = match Orchestrator::start(loaded, engine_options) {
        Ok(orchestrator) => orchestrator,
        Err(report) => return Err(membership.refuse(runtime, &report, options.json)),
    };
    if !options.quiet && !options.json {
        // Those that only building found come after the others.
        configuration::warn(&orchestrator.warnings()[warned..]);
    }

    let observed = metrics::Watched::default();
    runtime.block_on(async {
        if let (Some(address), Some(recorder)) = (options.metrics, recorder.clone()) {
            metrics::serve(
                address,
                recorder,
                orchestrator.clone(),
                observed.clone(),
                options.json,
            )
            .await?;
        }
        let admin = match (options.admin, recorder) {
            (Some(address), Some(recorder)) => {
                let figures = (recorder, observed.clone());
                Some(admin::serve(address, figures, orchestrator.clone(), options, archive).await?)
            }
            _ => None,
        };
        let watch = watched
            .map(|files| Watch::begin(options, orchestrator.clone(), &files))
            .transpose()?;
        let run = Run::prepare(options, orchestrator, dead_letter_topic).await?;
        if collects {
            observed.watch(run.runner.counters(), run.runner.status());
        }
        if let Some(watch) = watch {
            tokio::spawn(watch.run());
        }
        let (engine, counters) = (run.orchestrator.clone(), run.runner.counters());
        let ended = {
            let running = std::pin::pin!(run.watched());
            membership.during(running, engine, counters).await
        };
        membership.leave().await;
        if let Some(close) = admin {
            // A change that is being made is made, so that nobody is left without an answer.
            let _ = tokio::task::spawn_blocking(close).await;
        }
        ended
    })
}

struct Run<'a> {
    options: &'a RunOptions,
    orchestrator: Arc<Orchestrator>,
    runner: Runner,
    total_bytes: Option<u64>,
    signals: Signals,
}

impl<'a> Run<'a> {
    /// Opens everything; outputs last, and they keep what they hold until something is written.
    async fn prepare(
        options: &'a RunOptions,
        orchestrator: Arc<Orchestrator>,
        dead_letter_topic: TopicTemplate,
    ) -> Result<Self, Exit> {
        let signals = Signals::listen()
            .map_err(|error| Exit::failed(format_args!("cannot listen to signals: {error}")))?;
        let opened = open(&RunUrls {
            from: options.from.clone(),
            to: options.to.clone(),
            dead_letters: options.dead_letters.clone(),
            create: options.create,
            max_line_bytes: usize::try_from(options.max_line_bytes).unwrap_or(usize::MAX),
            dead_letter_topic: dead_letter_topic.clone(),
        })
        .await?;
        let total_bytes = opened.source.total_bytes();
        let mut runner_options = RunnerOptions::default();
        runner_options.batch = options.batch as usize;
        runner_options.in_flight_records = options.in_flight as usize;
        runner_options.max_deliveries = options.max_deliveries;
        runner_options.dead_letter_topic = dead_letter_topic;
        runner_options.atomic = opened.atomic;
        let runner = Runner::new(
            orchestrator.clone(),
            opened.source,
            opened.sink,
            opened.dead_letters,
            runner_options,
        );
        Ok(Self {
            options,
            orchestrator,
            runner,
            total_bytes,
            signals,
        })
    }

    /// Runs to the end, listening to signals and showing progress; then says what was done.
    async fn watched(mut self) -> Result<(), Exit> {
        let started = Instant::now();
        let counters = self.runner.counters();
        let stop = self.runner.stop_handle();
        let progress = (!self.options.quiet && !self.options.json)
            .then(|| tokio::spawn(progress::show(counters.clone(), self.total_bytes)));
        let waiting = (!self.options.quiet)
            .then(|| tokio::spawn(waiting::show(self.runner.status(), self.options.json)));
        let mut asked_to_stop = None;
        let mut running = tokio::spawn(self.runner.run());
        let ended = loop {
            tokio::select! {
                ended = &mut running => break ended,
                request = self.signals.next() => match request {
                    Request::Reload => {
                        // Nothing waits for it: it answers by what it prints.
                        tokio::spawn(reload(self.orchestrator.clone(), self.options.clone()));
                    }
                    Request::Interrupt if asked_to_stop == Some(Request::Interrupt) => {
                        // The second Ctrl-C: whoever presses it no longer wants to wait.
                        return Err(Exit::interrupted());
                    }
                    stopping => {
                        asked_to_stop = Some(stopping);
                        stop.stop();
                    }
                },
            }
        };
        if let Some(waiting) = waiting {
            waiting.abort();
        }
        if let Some(progress) = progress {
            progress.abort();
            // Waits until the bar is gone, so that it does not overwrite the summary.
            let _ = progress.await;
        }
        let result: Result<Ended, AdapterError> =
            ended.map_err(|_| Exit::failed("the run ended by itself"))?;
        let ended_early = match (&result, asked_to_stop) {
            (Ok(Ended::Stopped), Some(Request::Terminate)) => Some("SIGTERM"),
            (Ok(Ended::Stopped), _) => Some("Ctrl-C"),
            (Ok(Ended::AtTheEnd), _) => None,
            (Err(_), _) => Some("the run failed"),
        };
        let summary = Summary {
            counts: counters.read(),
            elapsed: started.elapsed(),
            generation: self.orchestrator.generation(),
            health: self.orchestrator.health(),
            ended_early,
        };
        if self.options.json {
            tell!("{}", summary.json());
        } else if !self.options.quiet {
            tell_text(&summary.text());
        }
        match result? {
            Ended::Stopped if asked_to_stop == Some(Request::Interrupt) => Err(Exit::interrupted()),
            _ => Ok(()),
        }
    }
}

/// Loads the configuration again. One that cannot be used changes nothing.
async fn reload(orchestrator: Arc<Orchestrator>, options: RunOptions) {
    if Membership::is_asked_for(&options) {
        tell!("etl: the configuration comes from the fleet, which is followed all the time");
        return;
    }
    // Compiling modules takes its time, and records go on meanwhile.
    let done = tokio::task::spawn_blocking(move || {
        let reloaded = configuration::load(&options.configuration)
            .and_then(|loaded| orchestrator.reload(loaded));
        match (reloaded, options.json) {
            (Ok(generation), false) => {
                tell!("etl: the configuration was loaded again: generation {generation}");
            }
            (Ok(generation), true) => {
                tell!("{{\"reloaded\":true,\"generation\":{generation}}}");
            }
            (Err(report), json) => {
                configuration::refuse(&report, json);
                let generation = orchestrator.generation();
                if json {
                    tell!("{{\"reloaded\":false,\"generation\":{generation}}}");
                } else {
                    tell!(
                        "etl: the configuration was not loaded again: generation {generation} goes on"
                    );
                }
            }
        }
    });
    if let Err(error) = done.await {
        tracing::error!(%error, "loading the configuration again ended by itself");
    }
}
