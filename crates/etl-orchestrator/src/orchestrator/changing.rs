//! Changes while running: pipelines and modules come and go, new versions are promoted or rolled back, an earlier configuration returns.
//!
//! Each change is one swap, and is checked like a file. It may ask to be made only to the generation that its author has seen, so that
//! of two operators the second one learns of the first; and it may be tried without being made.

use std::path::PathBuf;
use std::sync::Arc;

use etl_config::{Edit, LoadOptions, Loaded, Problem, Report};

use super::Orchestrator;
use super::reloading::Control;
use crate::canary::{self, CanaryStatus, Terms};
use crate::program::ModuleProgram;
use crate::snapshot::Snapshot;

/// How a change is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeOptions {
    /// Build and check everything, and change nothing.
    pub dry_run: bool,
    /// Only if this generation is in force.
    pub expected_generation: Option<u64>,
    /// What the list of generations says of it: who, and why. Empty: what was done.
    pub cause: String,
}

/// A change that was made, or that could be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Changed {
    /// The generation that is in force now; of a dry run, the one that would be.
    pub generation: u64,
    /// What probably does not mean what its author meant.
    pub warnings: Vec<Problem>,
}

/// Why a change was not made. Nothing has changed then.
#[derive(Clone, Debug)]
pub struct ChangeError {
    kind: ChangeErrorKind,
    message: String,
    report: Option<Report>,
}

/// The kinds of [`ChangeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeErrorKind {
    /// Another generation is in force than the one that was expected.
    Conflict,
    /// There is no such generation any more, or no such trial.
    Unknown,
    /// What it would make cannot be used; [`ChangeError::report`] has every problem.
    Invalid,
    /// It must not come back: other keys are trusted with modules now.
    Refused,
}

impl ChangeError {
    fn new(kind: ChangeErrorKind, message: String) -> Self {
        Self {
            kind,
            message,
            report: None,
        }
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> ChangeErrorKind {
        self.kind
    }

    /// Every problem, where it would make something that cannot be used.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }
}

impl From<Report> for ChangeError {
    fn from(report: Report) -> Self {
        Self {
            kind: ChangeErrorKind::Invalid,
            message: report.to_string(),
            report: Some(report),
        }
    }
}

impl std::fmt::Display for ChangeError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for ChangeError {}

/// How a trial ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Promoted,
    RolledBack,
}

impl Orchestrator {
    /// Puts another whole configuration in the place of the present one; [`reload`](Self::reload) with options.
    ///
    /// # Errors
    /// `Conflict`, or `Invalid` with everything that is wrong.
    pub fn replace(&self, loaded: Loaded, options: &ChangeOptions) -> Result<Changed, ChangeError> {
        let mut control = self.expecting(options)?;
        self.make(&mut control, loaded, options, "reload")
    }

    /// Makes changes to the configuration in force: all of them by one swap, or none. Module files are read again, as at a reload.
    ///
    /// # Errors
    /// `Conflict`, or `Invalid` with everything that is wrong.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// use etl_config::{Edit, EditText, LoadOptions, load_text};
    /// use etl_orchestrator::{ChangeErrorKind, ChangeOptions, Options, Orchestrator};
    /// # let mut options = Options::default();
    /// # options.transforms = Some(etl_orchestrator::TransformFor::new(|_| Arc::new(|_: &etl_orchestrator::View| etl_orchestrator::Reply::Keep)));
    /// let files = LoadOptions::isolated();
    /// let orchestrator = Orchestrator::start(load_text("etl.toml", "", &files)?, options)?;
    ///
    /// let pipeline = r#"{ "pipeline_id": "p", "stages": [{ "priority": 0, "modules": [{ "module_id": "m" }] }] }"#;
    /// let add = Edit::AddPipeline(EditText::new("p.json", pipeline));
    /// let mut seen = ChangeOptions::default();
    /// seen.expected_generation = Some(1);
    /// assert_eq!(orchestrator.edit(&[add.clone()], &files, &seen)?.generation, 2);
    ///
    /// // Somebody else has seen generation 1 too, and comes too late.
    /// let error = orchestrator.edit(&[add], &files, &seen).unwrap_err();
    /// assert_eq!(error.kind(), ChangeErrorKind::Conflict);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn edit(
        &self,
        edits: &[Edit],
        files: &LoadOptions,
        options: &ChangeOptions,
    ) -> Result<Changed, ChangeError> {
        let mut control = self.expecting(options)?;
        let present = self.shared.live.load_full();
        let loaded = present
            .loaded
            .edited(edits, files)
            .inspect_err(|_| self.refused())?;
        // Whoever declares a module anew wants its new version tried, whatever became of it before.
        for module in &loaded.config.modules {
            let before = present.loaded.config.module(&module.id);
            if !options.dry_run && before.is_none_or(|before| before.path != module.path) {
                canary::lock(&self.trials).forgive(&module.id);
            }
        }
        self.make(&mut control, loaded, options, "edit")
    }

    /// Goes back to a configuration that was in force before, exactly as it was: the same bytes of the same modules, whatever is in
    /// their files now. Its circuit breakers are what they were when they were last in use.
    ///
    /// # Errors
    /// `Conflict`; `Unknown` where it is not kept any more, see [`generations`](Self::generations); `Refused` where it trusts other keys.
    pub fn roll_back(
        &self,
        generation: u64,
        options: &ChangeOptions,
    ) -> Result<Changed, ChangeError> {
        let mut control = self.expecting(options)?;
        let Some((snapshot, keepsake)) = control.history.find(generation) else {
            return Err(ChangeError::new(
                ChangeErrorKind::Unknown,
                format!("generation {generation} is not kept"),
            ));
        };
        // Nothing is loaded on the way back, so modules that may not be loaded any more must not come in by it.
        if snapshot.loaded.config.security != self.shared.live.load().loaded.config.security {
            return Err(ChangeError::new(
                ChangeErrorKind::Refused,
                format!(
                    "generation {generation} trusts other keys with its modules; load it from files instead"
                ),
            ));
        }
        let next = self.generation() + 1;
        let (snapshot, keepsake) = (snapshot.renumbered(next), keepsake.clone());
        if !options.dry_run {
            control.modules.go_back(keepsake);
            control.modules.resume_trials(&snapshot.program);
            let cause = format!("back to generation {generation}");
            self.put(&mut control, &snapshot, said(options, &cause));
        }
        Ok(Changed {
            generation: next,
            warnings: Vec::new(),
        })
    }

    /// Ends the trial of a module's new version: from now on it is the module. Nothing is built, so this cannot fail for its content.
    /// The configuration that is loaded from files next should say so too.
    ///
    /// # Errors
    /// `Conflict`; `Unknown` where no new version of the module is on trial.
    pub fn promote(&self, module: &str, options: &ChangeOptions) -> Result<Changed, ChangeError> {
        self.end_trial(module, None, options, Verdict::Promoted)
    }

    /// Ends the trial of a module's new version: the present one handles everything again. A version that was rolled back is not tried
    /// again, whatever is loaded, until its bytes change or the module is declared anew by [`edit`](Self::edit).
    ///
    /// # Errors
    /// `Conflict`; `Unknown` where no new version of the module is on trial.
    pub fn roll_back_canary(
        &self,
        module: &str,
        options: &ChangeOptions,
    ) -> Result<Changed, ChangeError> {
        self.end_trial(module, None, options, Verdict::RolledBack)
    }

    /// The new versions of modules that are on trial, and the last ones that were rolled back.
    #[must_use]
    pub fn canaries(&self) -> Vec<CanaryStatus> {
        canary::lock(&self.trials).status()
    }

    /// A new version fails too often on these terms. Another one that has come in its place meanwhile has a trial of its own.
    pub(crate) fn end_bad_trial(&self, terms: &Terms) {
        let module = &*terms.module;
        let options = ChangeOptions {
            cause: format!("the new version of {module} failed too often"),
            ..ChangeOptions::default()
        };
        // A trial that somebody has just ended is as well.
        if self
            .end_trial(module, Some(terms), &options, Verdict::RolledBack)
            .is_ok()
        {
            tracing::error!(module, "a new version failed too often and was rolled back");
        }
    }

    fn end_trial(
        &self,
        module: &str,
        only: Option<&Terms>,
        options: &ChangeOptions,
        verdict: Verdict,
    ) -> Result<Changed, ChangeError> {
        let mut control = self.expecting(options)?;
        let present = self.shared.live.load_full();
        let ends = |program: &ModuleProgram| {
            let on_trial = program.on_trial.as_ref();
            *program.id == *module
                && on_trial
                    .is_some_and(|on_trial| only.is_none_or(|only| on_trial.trial.terms == *only))
        };
        if !present.program.modules().any(ends) {
            return Err(ChangeError::new(
                ChangeErrorKind::Unknown,
                format!("no new version of {module:?} is on trial"),
            ));
        }
        let generation = present.program.generation + 1;
        let snapshot = settled(&present, generation, module, verdict);
        if !options.dry_run {
            canary::lock(&self.trials).end(module, verdict == Verdict::RolledBack);
            let cause = match verdict {
                Verdict::Promoted => format!("the new version of {module} was promoted"),
                Verdict::RolledBack => format!("the new version of {module} was rolled back"),
            };
            self.put(&mut control, &snapshot, said(options, &cause));
        }
        Ok(Changed {
            generation,
            warnings: Vec::new(),
        })
    }

    /// The right to change the configuration, if the generation in force is the one that was expected.
    fn expecting(
        &self,
        options: &ChangeOptions,
    ) -> Result<crate::sync::MutexGuard<'_, Control>, ChangeError> {
        let control = self.control();
        let present = self.generation();
        match options.expected_generation {
            Some(expected) if expected != present => Err(ChangeError::new(
                ChangeErrorKind::Conflict,
                format!("generation {present} is in force, not {expected}"),
            )),
            _ => Ok(control),
        }
    }

    fn make(
        &self,
        control: &mut Control,
        loaded: Loaded,
        options: &ChangeOptions,
        cause: &str,
    ) -> Result<Changed, ChangeError> {
        let generation = self.generation() + 1;
        let snapshot = self.build(control, loaded, generation)?;
        let warnings = snapshot.loaded.warnings.clone();
        if !options.dry_run {
            self.swap(control, &snapshot, said(options, cause));
        }
        Ok(Changed {
            generation,
            warnings,
        })
    }
}

fn said<'a>(options: &'a ChangeOptions, otherwise: &'a str) -> &'a str {
    if options.cause.is_empty() {
        otherwise
    } else {
        &options.cause
    }
}

/// A snapshot without the trial of a module: one of its versions is the module now.
fn settled(
    present: &Arc<Snapshot>,
    generation: u64,
    module: &str,
    verdict: Verdict,
) -> Arc<Snapshot> {
    let mut loaded = present.loaded.clone();
    let declarations = loaded.config.modules.iter_mut();
    for declaration in declarations.filter(|declaration| declaration.id == module) {
        if let Some(canary) = declaration.canary.take()
            && verdict == Verdict::Promoted
        {
            declaration.file = PathBuf::clone(&canary.file);
            declaration.sha256 = canary.sha256;
        }
    }
    present.changed(generation, loaded, |program| {
        if *program.id == *module
            && let Some(on_trial) = program.on_trial.take()
        {
            let terms = &on_trial.trial.terms;
            (program.transform, program.sha256) = match verdict {
                Verdict::Promoted => (on_trial.canary, terms.canary_sha256.clone()),
                Verdict::RolledBack => (on_trial.stable, terms.stable_sha256.clone()),
            };
        }
    })
}
