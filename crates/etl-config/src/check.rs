//! What needs the whole configuration: names that are given twice, defaults that depend on another table, files against folders.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::MAX_RULES;
use crate::document::{Written, WrittenModule, WrittenSecrets};
use crate::load::LoadOptions;
use crate::model::{Config, ModuleDeclaration, Pipeline};
use crate::path::{ConfigPath, Segment};
use crate::problem::{Problem, Severity};
use crate::secret::SecretSettings;
use crate::secret_settings::secrets_beside;
use crate::sources::Sources;

/// Completes a configuration, and notes what is wrong with it as a whole.
///
/// `clean`: no error was found before. What depends on everything having been read is judged only then.
pub(crate) fn complete(
    written: Written,
    base: &Path,
    options: &LoadOptions,
    sources: &Sources,
    clean: bool,
    problems: &mut Vec<Problem>,
) -> Config {
    let modules_dir = match (&options.modules_dir, &written.modules_dir) {
        (Some(given), _) => given.clone(),
        (None, Some(written)) => base.join(written),
        (None, None) => base.join("modules"),
    };
    let mut check = Check { sources, problems };
    check.unique(
        "pipeline_id",
        "pipeline",
        written
            .pipelines
            .iter()
            .map(|pipeline| (pipeline.id.as_str(), &pipeline.path)),
    );
    check.unique(
        "id",
        "module",
        written
            .modules
            .iter()
            .map(|module| (module.declaration.id.as_str(), &module.declaration.path)),
    );
    check.rules(&written.pipelines);

    let mut instance_pool = written.instance_pool;
    instance_pool.cache_dir = instance_pool.cache_dir.map(|dir| base.join(dir));
    let mut modules: Vec<ModuleDeclaration> = Vec::new();
    for module in written.modules {
        modules.push(resolved(module, base, &modules_dir));
    }
    let secrets = options.secret_settings.clone();
    let mut config = Config {
        secrets: secrets.unwrap_or_else(|| secret_settings(written.secrets, base)),
        engine: written.engine,
        instance_pool,
        dead_letter: written.dead_letter,
        security: written.security,
        modules_dir,
        modules,
        pipelines: written.pipelines,
    };
    check.whole(&mut config, clean);
    config
}

/// Where secrets are, with files where they are.
pub(crate) fn secret_settings(written: WrittenSecrets, base: &Path) -> SecretSettings {
    let mut settings = secrets_beside(base);
    if let Some(file) = written.file {
        settings.file = base.join(file);
    }
    settings.key(written.key.map(|key| key.relative_to(base)))
}

/// Completes a configuration again whose pipelines and modules have changed, and notes what is wrong with it as a whole.
pub(crate) fn amend(
    config: &mut Config,
    sources: &Sources,
    clean: bool,
    problems: &mut Vec<Problem>,
) {
    let mut check = Check { sources, problems };
    check.unique(
        "pipeline_id",
        "pipeline",
        config
            .pipelines
            .iter()
            .map(|pipeline| (pipeline.id.as_str(), &pipeline.path)),
    );
    config.modules.retain(is_declared);
    check.unique(
        "id",
        "module",
        config
            .modules
            .iter()
            .map(|module| (module.id.as_str(), &module.path)),
    );
    check.rules(&config.pipelines);
    check.whole(config, clean);
}

/// Whether a module has an entry of its own, and is not only used.
pub(crate) fn is_declared(module: &ModuleDeclaration) -> bool {
    matches!(module.path.segments().first(), Some(Segment::Key(key)) if key == "modules")
}

/// A declaration with its files where they are.
pub(crate) fn resolved(
    module: WrittenModule,
    base: &Path,
    modules_dir: &Path,
) -> ModuleDeclaration {
    let mut declaration = module.declaration;
    declaration.file = module.file.map_or_else(
        || in_folder(modules_dir, &declaration.id),
        |file| base.join(file),
    );
    if let Some(canary) = &mut declaration.canary {
        canary.file = base.join(&canary.file);
    }
    declaration
}

fn in_folder(modules_dir: &Path, id: &str) -> PathBuf {
    modules_dir.join(format!("{id}.wasm"))
}

struct Check<'a> {
    sources: &'a Sources,
    problems: &'a mut Vec<Problem>,
}

impl Check<'_> {
    /// Fills in what depends on other tables, and judges modules by who uses them.
    fn whole(&mut self, config: &mut Config, clean: bool) {
        for pipeline in &mut config.pipelines {
            if pipeline.dead_letter_topic.literals.is_empty() {
                pipeline.dead_letter_topic = config.dead_letter.topic.clone();
            }
            for module in pipeline
                .stages
                .iter_mut()
                .flat_map(|stage| &mut stage.modules)
            {
                if module.instance.max_concurrent_instances == 0 {
                    module.instance.max_concurrent_instances = config.instance_pool.max_pool_size;
                }
            }
        }
        if clean {
            self.use_of(&config.modules, &config.pipelines);
            self.canaries(&config.modules);
        }
        let mut known: HashSet<String> = config
            .modules
            .iter()
            .map(|module| module.id.clone())
            .collect();
        for module in config
            .pipelines
            .iter()
            .flat_map(|pipeline| &pipeline.stages)
            .flat_map(|stage| &stage.modules)
        {
            if known.insert(module.module_id.clone()) {
                config.modules.push(ModuleDeclaration {
                    id: module.module_id.clone(),
                    file: in_folder(&config.modules_dir, &module.module_id),
                    sha256: None,
                    canary: None,
                    path: module.path.key("module_id"),
                });
            }
        }
    }

    /// Warns of new versions that are the present one.
    fn canaries(&mut self, modules: &[ModuleDeclaration]) {
        for module in modules {
            if let Some(canary) = &module.canary
                && (canary.file == module.file
                    || (canary.sha256.is_some() && canary.sha256 == module.sha256))
            {
                let message = format!("the canary of {:?} is the module itself", module.id);
                let hint = "give the new version a file of its own, or remove `canary`";
                self.note(Severity::Warning, &canary.path.key("path"), message, hint);
            }
        }
    }

    fn note(&mut self, severity: Severity, path: &ConfigPath, message: String, hint: &str) {
        self.problems.push(self.sources.problem(
            severity,
            path,
            message,
            Some(hint.to_owned()),
            None,
        ));
    }

    fn unique<'a>(
        &mut self,
        field: &'static str,
        what: &str,
        names: impl Iterator<Item = (&'a str, &'a ConfigPath)>,
    ) {
        let mut first: HashMap<&str, &ConfigPath> = HashMap::new();
        // A blank stands for an id that was not readable, which has been reported.
        for (name, path) in names.filter(|(name, _)| !name.is_empty()) {
            if let Some(earlier) = first.get(name) {
                let place = self.sources.problem(
                    Severity::Error,
                    &earlier.key(field),
                    String::new(),
                    None,
                    None,
                );
                let (line, column) = (place.line().unwrap_or(1), place.column().unwrap_or(1));
                let message = format!(
                    "the {what} {name:?} is already defined at {}:{line}:{column}",
                    place.file()
                );
                self.note(
                    Severity::Error,
                    &path.key(field),
                    message,
                    "give one of the two another id, or remove it",
                );
            } else {
                first.insert(name, path);
            }
        }
    }

    fn rules(&mut self, pipelines: &[Pipeline]) {
        let mut rules = 0;
        for module in pipelines
            .iter()
            .flat_map(|pipeline| &pipeline.stages)
            .flat_map(|stage| &stage.modules)
        {
            rules += module.filter.leaves().count() + module.conditions.len();
            if rules > MAX_RULES {
                let message = format!(
                    "more than {MAX_RULES} topic filters and conditional rules in one configuration"
                );
                self.note(
                    Severity::Error,
                    &module.path,
                    message,
                    "this is the first module over the limit",
                );
                return;
            }
        }
    }

    /// Warns of modules that nothing calls, and of a configuration that calls nothing.
    fn use_of(&mut self, modules: &[ModuleDeclaration], pipelines: &[Pipeline]) {
        let used = |enabled: bool| -> HashSet<&str> {
            let pipelines = pipelines
                .iter()
                .filter(|pipeline| pipeline.enabled || !enabled);
            let stages = pipelines.flat_map(|pipeline| &pipeline.stages);
            stages
                .flat_map(|stage| &stage.modules)
                .map(|module| module.module_id.as_str())
                .collect()
        };
        let (anywhere, running) = (used(false), used(true));
        for module in modules {
            if !anywhere.contains(module.id.as_str()) {
                let message = format!(
                    "the module {:?} is never reached: no pipeline uses it",
                    module.id
                );
                self.note(
                    Severity::Warning,
                    &module.path,
                    message,
                    "use it, or remove its declaration",
                );
            } else if !running.contains(module.id.as_str()) {
                let message = format!(
                    "the module {:?} is never reached: only disabled pipelines use it",
                    module.id
                );
                self.note(
                    Severity::Warning,
                    &module.path,
                    message,
                    "enable one of them, or remove its declaration",
                );
            }
        }
        if !pipelines.iter().any(|pipeline| pipeline.enabled) {
            let hint = "add a pipeline, or enable one";
            self.note(
                Severity::Warning,
                &ConfigPath::root(),
                "no pipeline is enabled: every record passes as it is".to_owned(),
                hint,
            );
        }
    }
}
