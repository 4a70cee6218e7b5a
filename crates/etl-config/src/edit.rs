//! Changes of a configuration that has been loaded: pipelines and modules come, go, and are switched on and off.
//!
//! What an edit brings is a document like a file, read and checked like one, and its problems say where in it they are. Edits
//! are made together or not at all, and the configuration that they are made to is left as it is.

use std::path::Path;
use std::sync::Arc;

use crate::check::{self, is_declared};
use crate::document::module_table;
use crate::load::{LoadOptions, Loaded, Loading};
use crate::model::{Config, ModuleDeclaration, Pipeline};
use crate::path::{ConfigPath, Segment};
use crate::problem::{Place, Problem, Report, Severity};
use crate::reader::{At, Reading, Shape, nearest};
use crate::sources::{Document, Form};

/// A document that an [`Edit`] brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditText {
    /// What problems call it; its ending tells TOML from JSON, and relative paths in it are relative to its folder.
    pub name: String,
    /// The document: one pipeline, or one entry of `modules`.
    pub text: String,
}

impl EditText {
    /// A document.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            text: text.into(),
        }
    }
}

/// One change of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edit {
    /// A new pipeline.
    AddPipeline(EditText),
    /// Another pipeline in the place of the one that has its id.
    ReplacePipeline(EditText),
    /// The pipeline of this id goes.
    RemovePipeline(String),
    /// The pipeline of this id runs.
    EnablePipeline(String),
    /// The pipeline of this id does not run.
    DisablePipeline(String),
    /// A new entry of `modules`. A module that was found in `modules_dir` may be given one.
    AddModule(EditText),
    /// Another entry in the place of the one that has its id.
    ReplaceModule(EditText),
    /// The entry of this id goes. No pipeline may use it.
    RemoveModule(String),
}

impl Loaded {
    /// The same configuration with these changes. Its warnings are those of the changes and of the whole.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    ///
    /// ```
    /// use etl_config::{Edit, EditText, LoadOptions, load_text};
    /// let options = LoadOptions::isolated();
    /// let pipeline = r#"{ "pipeline_id": "p", "stages": [{ "priority": 0, "modules": [{ "module_id": "m" }] }] }"#;
    /// let loaded = load_text("etl.toml", "", &options)?;
    /// let edited = loaded.edited(&[Edit::AddPipeline(EditText::new("p.json", pipeline))], &options)?;
    /// assert_eq!(edited.config.pipelines[0].id, "p");
    ///
    /// let report = edited.edited(&[Edit::RemovePipeline("q".into())], &options).unwrap_err();
    /// assert_eq!(report.problems()[0].message(), "no pipeline is called \"q\"");
    /// # Ok::<(), etl_config::Report>(())
    /// ```
    pub fn edited(&self, edits: &[Edit], options: &LoadOptions) -> Result<Self, Report> {
        let mut loading = Loading::new(options, self.config.secrets.clone());
        loading.sources = self.sources.clone();
        loading.seen = self.next.0;
        let mut editing = Editing {
            loading,
            config: self.config.clone(),
            next_module: self.next.1,
        };
        for edit in edits {
            editing.make(edit);
        }
        editing.finish(self)
    }
}

struct Editing<'a> {
    loading: Loading<'a>,
    config: Config,
    next_module: usize,
}

impl Editing<'_> {
    fn make(&mut self, edit: &Edit) {
        match edit {
            Edit::AddPipeline(text) => {
                let new = self.pipeline(text);
                self.config.pipelines.extend(new);
            }
            Edit::ReplacePipeline(text) => {
                if let Some(new) = self.pipeline(text)
                    && let Some(place) = self.find_pipeline(&new.id)
                {
                    self.config.pipelines[place] = new;
                }
            }
            Edit::RemovePipeline(id) => {
                if let Some(place) = self.find_pipeline(id) {
                    self.config.pipelines.remove(place);
                }
            }
            Edit::EnablePipeline(id) => self.enable(id, true),
            Edit::DisablePipeline(id) => self.enable(id, false),
            Edit::AddModule(text) => {
                let new = self.module(text);
                self.config.modules.extend(new);
            }
            Edit::ReplaceModule(text) => {
                if let Some(new) = self.module(text)
                    && let Some(place) = self.find_module(&new.id)
                {
                    self.config.modules[place] = new;
                }
            }
            Edit::RemoveModule(id) => {
                if let Some(place) = self.find_module(id) {
                    let module = self.config.modules.remove(place);
                    self.refuse_if_used(&module);
                }
            }
        }
    }

    /// The pipeline that a document holds.
    fn pipeline(&mut self, text: &EditText) -> Option<Pipeline> {
        self.loading
            .document(text.name.clone(), text.text.clone(), true);
        self.loading.pipelines.pop()
    }

    /// The module that a document holds.
    fn module(&mut self, text: &EditText) -> Option<ModuleDeclaration> {
        let (file, mut root) = self.loading.parse(text.name.clone(), text.text.clone())?;
        let index = self.next_module;
        self.next_module += 1;
        let mut reading = Reading::new(Arc::clone(&file));
        let form = Form::Module(index);
        self.loading.substitute(&mut root, form, &mut reading);
        let modules = ConfigPath::root().key("modules");
        let at = At {
            parent: &modules,
            segment: Some(Segment::Index(index)),
        };
        let module = module_table().read(&root, &at, &mut reading);
        self.loading.problems.append(&mut reading.problems);
        let document = Document { file, root, form };
        self.loading.sources.documents.push(Arc::new(document));
        let base = Path::new(&text.name).parent().unwrap_or(Path::new(""));
        module.map(|module| check::resolved(module, base, &self.config.modules_dir))
    }

    fn enable(&mut self, id: &str, enabled: bool) {
        if let Some(place) = self.find_pipeline(id) {
            self.config.pipelines[place].enabled = enabled;
        }
    }

    fn find_pipeline(&mut self, id: &str) -> Option<usize> {
        let ids = self
            .config
            .pipelines
            .iter()
            .map(|pipeline| pipeline.id.as_str());
        self.find(
            "pipeline",
            "pipelines",
            id,
            ids.map(str::to_owned).collect(),
        )
    }

    fn find_module(&mut self, id: &str) -> Option<usize> {
        let ids = self.config.modules.iter().map(|module| {
            // One that is only used has no entry that could go or be replaced.
            if is_declared(module) {
                module.id.clone()
            } else {
                String::new()
            }
        });
        let ids = ids.collect();
        self.find("module", "modules", id, ids)
    }

    fn find(
        &mut self,
        what: &str,
        list: &'static str,
        id: &str,
        ids: Vec<String>,
    ) -> Option<usize> {
        let place = ids.iter().position(|other| other == id && !id.is_empty());
        if place.is_none() && !id.is_empty() {
            let hint = nearest(id, ids.iter().map(String::as_str))
                .map(|name| format!("did you mean `{name}`?"));
            let message = match what {
                "module" => format!("no module is declared as {id:?}"),
                _ => format!("no {what} is called {id:?}"),
            };
            self.refuse(ConfigPath::root().key(list), message, hint);
        }
        place
    }

    fn refuse_if_used(&mut self, module: &ModuleDeclaration) {
        let users: Vec<&str> = self
            .config
            .pipelines
            .iter()
            .filter(|pipeline| {
                let mut uses = pipeline.stages.iter().flat_map(|stage| &stage.modules);
                uses.any(|usage| usage.module_id == module.id)
            })
            .map(|pipeline| pipeline.id.as_str())
            .collect();
        if !users.is_empty() {
            let message = format!(
                "the module {:?} is in use: by {}",
                module.id,
                users.join(", ")
            );
            let hint = "remove or replace these pipelines first, or in the same change".to_owned();
            self.refuse(module.path.clone(), message, Some(hint));
        }
    }

    fn refuse(&mut self, path: ConfigPath, message: String, hint: Option<String>) {
        self.loading.problems.push(Problem::new(
            Severity::Error,
            Place::File("edit".to_owned()),
            path,
            message,
            hint,
        ));
    }

    fn finish(self, before: &Loaded) -> Result<Loaded, Report> {
        let Self {
            loading,
            mut config,
            next_module,
        } = self;
        let Loading {
            options,
            mut sources,
            mut problems,
            seen,
            ..
        } = loading;
        let clean = !problems
            .iter()
            .any(|problem| problem.severity() == Severity::Error);
        check::amend(&mut config, &sources, clean, &mut problems);
        if options.deny_warnings {
            problems = problems.into_iter().map(Problem::denied).collect();
        }
        let report = Report::new(problems);
        if report.has_errors() {
            return Err(report);
        }
        // What nothing points into any more is let go, or a configuration that is edited for ever would grow for ever.
        sources.documents.retain(|document| match document.form {
            Form::Pipeline(index) => config
                .pipelines
                .iter()
                .any(|pipeline| pipeline.path == ConfigPath::root().key("pipelines").index(index)),
            Form::Module(index) => config
                .modules
                .iter()
                .any(|module| module.path == ConfigPath::root().key("modules").index(index)),
            Form::Whole | Form::Wrapped => true,
        });
        Ok(Loaded {
            next: (seen, next_module),
            deny_warnings: before.deny_warnings,
            secrets: before.secrets.clone(),
            config,
            warnings: report.problems().to_vec(),
            files: before.files.clone(),
            sources,
        })
    }
}
