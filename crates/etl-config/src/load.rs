//! From files to a configuration, or to everything that is wrong with them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check;
use crate::document::{Written, configuration_table, pipeline_table};
use crate::model::{Config, Pipeline};
use crate::path::{ConfigPath, Segment};
use crate::problem::{MORE, MOST_OF_A_DOCUMENT, Place, Problem, Report, Severity};
use crate::reader::{At, Reading, Shape, position_in};
use crate::secret::{SecretSettings, SecretSource, Vault};
use crate::secret_settings::{base_of, secrets_beside};
use crate::source::SourceFile;
use crate::sources::{Document, Form, Sources};
use crate::substitute::Fill;
use crate::tree::{self, Entry, Node, Value};
use crate::{MAX_FILE_BYTES, substitute};

/// What loading depends on besides the files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Where modules without a path of their own are looked for, whatever the files say. Relative to the working directory.
    pub modules_dir: Option<PathBuf>,
    /// The variables that `${VAR}` may name.
    pub environment: BTreeMap<String, String>,
    /// Makes every warning an error.
    pub deny_warnings: bool,
    /// Who keeps the secrets that `${secret:NAME}` may name. `None`: none can be had.
    pub secrets: Option<Arc<dyn SecretSource>>,
    /// Where secrets are, whatever the files say of it: for documents that come from others, who must not say what is read or run here.
    pub secret_settings: Option<SecretSettings>,
}

impl Default for LoadOptions {
    /// The environment of the process, without variables that are not UTF-8.
    fn default() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self {
            environment: variables.collect(),
            ..Self::isolated()
        }
    }
}

impl LoadOptions {
    /// No variable is set.
    #[must_use]
    pub fn isolated() -> Self {
        Self {
            modules_dir: None,
            environment: BTreeMap::new(),
            deny_warnings: false,
            secrets: None,
            secret_settings: None,
        }
    }

    /// With somebody who keeps secrets.
    #[must_use]
    pub fn secrets(mut self, source: Arc<dyn SecretSource>) -> Self {
        self.secrets = Some(source);
        self
    }

    /// With secrets that are there and nowhere else, whatever the files say.
    #[must_use]
    pub fn secret_settings(mut self, settings: SecretSettings) -> Self {
        self.secret_settings = Some(settings);
        self
    }

    /// With a folder for modules that wins over the files'.
    #[must_use]
    pub fn modules_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.modules_dir = Some(dir.into());
        self
    }

    /// With a variable set.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// With every warning an error, or not.
    #[must_use]
    pub fn deny_warnings(mut self, deny: bool) -> Self {
        self.deny_warnings = deny;
        self
    }
}

/// A configuration that can be used, with what is needed to say where things in it were written.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What runs.
    pub config: Config,
    /// What probably does not mean what its author meant.
    pub warnings: Vec<Problem>,
    /// The files that it was read from, in order: what to watch for changes, together with the folder if one was loaded.
    pub files: Vec<PathBuf>,
    pub(crate) sources: Sources,
    /// The index of the next pipeline that an edit brings, and of the next module.
    pub(crate) next: (usize, usize),
    /// Whether warnings are errors.
    pub(crate) deny_warnings: bool,
    /// Who opens what is encrypted.
    pub(crate) secrets: Option<Arc<dyn SecretSource>>,
}

impl Loaded {
    /// What a pipeline's document says, with what was put into its strings left as it was asked for (`${VAR}`), so that it may be shown.
    /// Whether it is enabled is what is in force, also after an edit that switched it. `None` where no pipeline has this id.
    #[must_use]
    pub fn pipeline_as_written(&self, id: &str) -> Option<serde_json::Value> {
        let mut pipelines = self.config.pipelines.iter();
        let pipeline = pipelines.find(|pipeline| pipeline.id == id)?;
        let mut written = self.sources.as_written(&pipeline.path)?;
        if let Some(fields) = written.as_object_mut()
            && (!pipeline.enabled || fields.contains_key("enabled"))
        {
            fields.insert("enabled".to_owned(), pipeline.enabled.into());
        }
        Some(written)
    }

    /// The bytes of a module's file, decrypted where they are encrypted.
    ///
    /// # Errors
    /// The file cannot be read, or is encrypted and cannot be opened.
    pub fn read_module(&self, file: &Path) -> io::Result<Vec<u8>> {
        let bytes = fs::read(file)?;
        match &self.secrets {
            None => Ok(bytes),
            Some(source) => source
                .open_file(&self.config.secrets, file, bytes)
                .map_err(io::Error::other),
        }
    }

    /// An error that only building could find, at its place in the files.
    ///
    /// Where the value at `path` is a string, `offset_in_string` is a byte of it, so that a pattern's mistake is shown inside the
    /// pattern, escapes and substitutions notwithstanding. A path that leads nowhere is shown at the nearest thing around it.
    #[must_use]
    pub fn problem(
        &self,
        path: &ConfigPath,
        message: impl Into<String>,
        hint: Option<String>,
        offset_in_string: Option<usize>,
    ) -> Problem {
        self.sources.problem(
            Severity::Error,
            path,
            message.into(),
            hint,
            offset_in_string,
        )
    }

    /// The same as a warning; an error where the configuration was loaded with [`deny_warnings`](LoadOptions::deny_warnings).
    #[must_use]
    pub fn warning(
        &self,
        path: &ConfigPath,
        message: impl Into<String>,
        hint: Option<String>,
    ) -> Problem {
        let severity = if self.deny_warnings {
            Severity::Error
        } else {
            Severity::Warning
        };
        self.sources
            .problem(severity, path, message.into(), hint, None)
    }
}

/// Loads a configuration file, a bare pipeline document, or a folder.
///
/// A file is JSON if its name ends in `.json`, TOML if in `.toml`; otherwise its first character tells. A folder holds `etl.toml`,
/// which may be missing, and `pipelines/*.toml` and `pipelines/*.json`, one pipeline each, in the order of their names.
///
/// # Errors
///
/// Every problem that there is, if one of them is an error; nothing is loaded in part. Under
/// [`deny_warnings`](LoadOptions::deny_warnings) every warning is an error.
///
/// ```
/// use etl_config::{LoadOptions, load};
/// let report = load("/no/such/etl.toml", &LoadOptions::isolated()).unwrap_err();
/// assert!(report.problems()[0].message().contains("cannot be read"));
/// ```
pub fn load(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Loaded, Report> {
    let path = path.as_ref();
    let base = base_of(path);
    let mut loading = Loading::new(options, secrets_beside(base));
    if path.is_dir() {
        loading.folder(path);
    } else {
        loading.file(path);
    }
    loading.finish(base)
}

/// Loads a configuration, or a bare pipeline document, from text that came from elsewhere than a file.
///
/// `name` is what problems call it; its ending tells TOML from JSON as for [`load`], and relative paths in the text are relative to
/// its folder.
///
/// # Errors
///
/// As [`load`].
///
/// ```
/// use etl_config::{LoadOptions, load_text};
/// let text = r#"
///     pipeline_id = "uppercase"
///     [[stages]]
///     priority = 0
///     modules = [{ module_id = "uppercase" }]
/// "#;
/// let loaded = load_text("uppercase.toml", text, &LoadOptions::isolated())?;
/// assert_eq!(loaded.config.pipelines[0].stages[0].modules[0].module_id, "uppercase");
/// # Ok::<(), etl_config::Report>(())
/// ```
pub fn load_text(name: &str, text: &str, options: &LoadOptions) -> Result<Loaded, Report> {
    let base = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut loading = Loading::new(options, secrets_beside(base));
    if text.len() as u64 > MAX_FILE_BYTES {
        loading.refuse(name.to_owned(), too_large(), None);
    } else {
        loading.document(name.to_owned(), text.to_owned(), false);
    }
    loading.finish(base)
}

pub(crate) struct Loading<'a> {
    pub(crate) options: &'a LoadOptions,
    pub(crate) sources: Sources,
    files: Vec<PathBuf>,
    pub(crate) problems: Vec<Problem>,
    written: Option<Written>,
    /// Those of documents that are pipelines.
    pub(crate) pipelines: Vec<Pipeline>,
    /// How many pipelines have been seen, readable or not: what the next one's index is.
    pub(crate) seen: usize,
    pub(crate) vault: Vault,
}

impl<'a> Loading<'a> {
    /// `settings`: where secrets are as long as no document says otherwise.
    pub(crate) fn new(options: &'a LoadOptions, settings: SecretSettings) -> Self {
        let settings = options.secret_settings.clone().unwrap_or(settings);
        Self {
            vault: Vault::new(options.secrets.clone(), settings),
            options,
            sources: Sources::default(),
            files: Vec::new(),
            problems: Vec::new(),
            written: None,
            pipelines: Vec::new(),
            seen: 0,
        }
    }

    fn refuse(&mut self, name: String, message: String, hint: Option<String>) {
        self.problems.push(Problem::new(
            Severity::Error,
            Place::File(name),
            ConfigPath::root(),
            message,
            hint,
        ));
    }

    fn folder(&mut self, folder: &Path) {
        let main = folder.join("etl.toml");
        let pipelines = folder.join("pipelines");
        if main.exists() {
            self.file(&main);
        }
        let mut names = Vec::new();
        if pipelines.exists() {
            match fs::read_dir(&pipelines) {
                Ok(entries) => {
                    names.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
                }
                Err(error) => self.refuse(
                    pipelines.display().to_string(),
                    format!("cannot be read: {error}"),
                    None,
                ),
            }
        } else if !main.exists() {
            let hint = "a folder holds `etl.toml`, or `pipelines` with a `.toml` or `.json` file for each pipeline, or both";
            self.refuse(
                folder.display().to_string(),
                "the folder holds no configuration".to_owned(),
                Some(hint.to_owned()),
            );
        }
        names.retain(|name| {
            let hidden = name
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'));
            !hidden && matches!(extension(name).as_str(), "toml" | "json") && !name.is_dir()
        });
        names.sort();
        for name in names {
            if let Some(text) = self.text(&name) {
                self.document(name.display().to_string(), text, true);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        if let Some(text) = self.text(path) {
            self.document(path.display().to_string(), text, false);
        }
    }

    /// The text of a file, or a problem.
    pub(crate) fn text(&mut self, path: &Path) -> Option<String> {
        self.files.push(path.to_owned());
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        let read = fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes));
        if let Err(error) = read {
            self.refuse(name, format!("cannot be read: {error}"), None);
            return None;
        }
        if bytes.len() as u64 > MAX_FILE_BYTES {
            self.refuse(name, too_large(), Some("split it into a folder".to_owned()));
            return None;
        }
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let start = error.utf8_error().valid_up_to();
                let hint = match error.as_bytes() {
                    [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "it looks like UTF-16: save it as UTF-8",
                    _ => "save it as UTF-8",
                };
                let file =
                    SourceFile::new(name, String::from_utf8_lossy(error.as_bytes()).into_owned());
                self.problems.push(Problem::new(
                    Severity::Error,
                    Place::Text(file, start..start + char::REPLACEMENT_CHARACTER.len_utf8()),
                    ConfigPath::root(),
                    "this is not UTF-8".to_owned(),
                    Some(hint.to_owned()),
                ));
                None
            }
        }
    }

    /// The tree of a document, or problems.
    pub(crate) fn parse(&mut self, name: String, text: String) -> Option<(Arc<SourceFile>, Node)> {
        // An editor's byte order mark is no part of the text.
        let text = text
            .strip_prefix('\u{FEFF}')
            .map(str::to_owned)
            .unwrap_or(text);
        let json = match extension(Path::new(&name)).as_str() {
            "json" => true,
            "toml" => false,
            _ => text.trim_start().starts_with(['{', '[']) && !text.trim_start().starts_with("[["),
        };
        let file = SourceFile::new(name, text);
        let parsed = if json {
            tree::json::parse(&file.text)
        } else {
            tree::toml::parse(&file.text)
        };
        match parsed {
            Ok(root) => Some((file, root)),
            Err(mut errors) => {
                if let Some(more) = errors.get_mut(MOST_OF_A_DOCUMENT) {
                    (more.message, more.hint) = (MORE.to_owned(), None);
                    errors.truncate(MOST_OF_A_DOCUMENT + 1);
                }
                for error in errors {
                    let place = Place::Text(Arc::clone(&file), error.span);
                    self.problems.push(Problem::new(
                        Severity::Error,
                        place,
                        ConfigPath::root(),
                        error.message,
                        error.hint,
                    ));
                }
                None
            }
        }
    }

    /// Reads one document; `pipeline` where it can only be one.
    pub(crate) fn document(&mut self, name: String, text: String, pipeline: bool) {
        let Some((file, mut root)) = self.parse(name, text) else {
            self.seen += usize::from(pipeline);
            return;
        };
        if pipeline && root.field("pipeline_id").is_none() {
            let whole = ["pipelines", "etl"]
                .into_iter()
                .find_map(|name| root.field(name));
            if let Some(entry) = whole {
                self.seen += 1;
                let place = Place::Text(file, entry.key_span.clone());
                let message = "a file in `pipelines` holds one pipeline, not a configuration";
                let hint =
                    "put each pipeline into a file of its own, and everything else into `etl.toml`";
                self.problems.push(Problem::new(
                    Severity::Error,
                    place,
                    ConfigPath::root().key("pipelines").index(self.seen - 1),
                    message.to_owned(),
                    Some(hint.to_owned()),
                ));
                return;
            }
        }
        let mut reading = Reading::new(Arc::clone(&file));
        let form = if pipeline {
            Form::Pipeline(self.seen)
        } else {
            form(&root)
        };
        self.substitute(&mut root, form, &mut reading);
        let document = Document { file, root, form };
        self.read(&document, &mut reading);
        self.problems.append(&mut reading.problems);
        self.sources.documents.push(Arc::new(document));
    }

    pub(crate) fn substitute(&mut self, root: &mut Node, form: Form, reading: &mut Reading) {
        let node = match (form, &mut root.value) {
            // What stands beside `etl` is somebody else's.
            (Form::Wrapped, Value::Table(entries)) => entries
                .iter_mut()
                .find(|entry| entry.key == "etl")
                .map(|entry| &mut entry.node),
            _ => Some(root),
        };
        let root_path = match form {
            Form::Pipeline(index) => ConfigPath::root().key("pipelines").index(index),
            Form::Module(index) => ConfigPath::root().key("modules").index(index),
            Form::Whole | Form::Wrapped => ConfigPath::root(),
        };
        let Some(node) = node else { return };
        let Value::Table(entries) = &mut node.value else {
            self.fill(node, root_path, reading);
            return;
        };
        // Where secrets are must be known before the first of them is asked for.
        let is_first = |entry: &Entry| Self::says_where(form) && entry.key == "secrets";
        for entry in entries.iter_mut().filter(|entry| is_first(entry)) {
            self.fill(&mut entry.node, root_path.key("secrets"), reading);
            self.settle_secrets(&entry.node, &reading.file);
        }
        for entry in entries.iter_mut().filter(|entry| !is_first(entry)) {
            let path = root_path.key(entry.key.clone());
            self.fill(&mut entry.node, path, reading);
        }
    }

    /// Fills the strings of a value.
    pub(crate) fn fill(&mut self, node: &mut Node, path: ConfigPath, reading: &mut Reading) {
        if !node.may_hold_text() {
            return;
        }
        let mut fill = Fill {
            environment: &self.options.environment,
            vault: &mut self.vault,
        };
        substitute::tree(node, path, &mut fill, &mut |node, path, unresolved| {
            let written = |offset| position_in(&reading.file, node, offset);
            let span = written(unresolved.span.start)..written(unresolved.span.end);
            reading.error(&span, path, unresolved.message, unresolved.hint);
        });
    }

    fn read(&mut self, document: &Document, reading: &mut Reading) {
        let root = ConfigPath::root();
        match document.form {
            Form::Pipeline(index) => {
                let pipelines = root.key("pipelines");
                let at = At {
                    parent: &pipelines,
                    segment: Some(Segment::Index(index)),
                };
                self.pipelines
                    .extend(pipeline_table().read(&document.root, &at, reading));
                self.seen += 1;
            }
            // Modules have documents of their own only in edits, which read them.
            Form::Module(_) => {}
            Form::Whole | Form::Wrapped => {
                let node = document.node();
                if document.form == Form::Wrapped {
                    warn_of_strays(&document.root, reading);
                }
                self.written = configuration_table().read(node, &At::here(&root), reading);
                if let Some(Value::List(pipelines)) =
                    node.field("pipelines").map(|entry| &entry.node.value)
                {
                    self.seen = pipelines.len();
                }
            }
        }
    }

    fn finish(mut self, base: &Path) -> Result<Loaded, Report> {
        let clean = !self
            .problems
            .iter()
            .any(|problem| problem.severity() == Severity::Error);
        let mut written = self.written.unwrap_or_else(Written::defaults);
        written.pipelines.append(&mut self.pipelines);
        let config = check::complete(
            written,
            base,
            self.options,
            &self.sources,
            clean,
            &mut self.problems,
        );
        if self.options.deny_warnings {
            self.problems = self.problems.into_iter().map(Problem::denied).collect();
        }
        let report = Report::new(self.problems);
        if report.has_errors() {
            return Err(report);
        }
        Ok(Loaded {
            next: (self.seen, config.modules.len()),
            deny_warnings: self.options.deny_warnings,
            secrets: self.options.secrets.clone(),
            config,
            warnings: report.problems().to_vec(),
            files: self.files,
            sources: self.sources,
        })
    }
}

/// What a document is, by what it holds.
fn form(root: &Node) -> Form {
    if root.field("etl").is_some() {
        Form::Wrapped
    } else if root.field("pipeline_id").is_some() || root.field("stages").is_some() {
        Form::Pipeline(0)
    } else {
        Form::Whole
    }
}

/// Warns of what stands beside `etl` and looks as if it belonged into it. The rest of the file is somebody else's.
fn warn_of_strays(root: &Node, reading: &mut Reading) {
    for name in [
        "instance_pool",
        "pipelines",
        "dead_letter",
        "security",
        "secrets",
    ] {
        if let Some(entry) = root.field(name) {
            let path = ConfigPath::root().key(name);
            let message = format!("`{name}` beside `etl` is not read");
            reading.warning(
                &entry.key_span,
                path,
                message,
                format!("write it as `etl.{name}`"),
            );
        }
    }
}

fn extension(path: &Path) -> String {
    path.extension()
        .map(|extension| extension.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

fn too_large() -> String {
    format!("larger than {} MiB", MAX_FILE_BYTES >> 20)
}
