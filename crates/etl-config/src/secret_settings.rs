//! What a configuration says of where its secrets are, which must be known before the first of them is asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check;
use crate::document::secrets_table;
use crate::load::{LoadOptions, Loading};
use crate::path::ConfigPath;
use crate::problem::{Report, Severity};
use crate::reader::{At, Reading, Shape};
use crate::secret::{SecretSettings, Vault};
use crate::source::SourceFile;
use crate::sources::Form;
use crate::tree::{Node, Value};

/// Where secrets are if nothing is said of it.
pub(crate) fn secrets_beside(base: &Path) -> SecretSettings {
    SecretSettings::in_file(base.join("etl.secrets"))
}

/// The folder to which a configuration's paths are relative.
pub(crate) fn base_of(path: &Path) -> &Path {
    if path.is_dir() {
        path
    } else {
        path.parent().unwrap_or(Path::new(""))
    }
}

/// Where the secrets of a configuration are, and the folder of its modules, without looking at anything else of it: for whoever sets a
/// secret that the configuration already names.
///
/// # Errors
/// The file cannot be read, or what it says of secrets is wrong.
pub fn secret_settings(
    path: &Path,
    options: &LoadOptions,
) -> Result<(SecretSettings, PathBuf), Report> {
    let base = base_of(path);
    let mut loading = Loading::new(options, secrets_beside(base));
    let file = if path.is_dir() {
        path.join("etl.toml")
    } else {
        path.to_owned()
    };
    let mut modules = options.modules_dir.clone();
    let is_bare_folder = path.is_dir() && !file.exists();
    if !is_bare_folder
        && let Some(text) = loading.text(&file)
        && let Some((source, mut root)) = loading.parse(file.display().to_string(), text)
    {
        let mut reading = Reading::new(Arc::clone(&source));
        let root = match root.field_mut("etl") {
            Some(node) => node,
            None => &mut root,
        };
        let here = ConfigPath::root();
        if let Some(node) = root.field_mut("secrets") {
            loading.fill(node, here.key("secrets"), &mut reading);
            loading.settle_secrets(node, &source);
            // Once more, for what is wrong with it.
            let _ = secrets_table().take(node, &At::here(&here.key("secrets")), &mut reading);
        }
        if let Some(node) = root.field_mut("modules_dir") {
            loading.fill(node, here.key("modules_dir"), &mut reading);
            if let Value::Text(text) = &node.value {
                modules = modules.or_else(|| Some(base.join(&text.text)));
            }
        }
        loading.problems.append(&mut reading.problems);
    }
    loading
        .problems
        .retain(|problem| problem.severity() == Severity::Error);
    if !loading.problems.is_empty() {
        return Err(Report::new(loading.problems));
    }
    let modules = modules.unwrap_or_else(|| base.join("modules"));
    Ok((loading.vault.into_settings(), modules))
}

impl Loading<'_> {
    /// Takes what a document says of where secrets are, unless that is settled. What is wrong with it is noted when the document is read.
    pub(crate) fn settle_secrets(&mut self, node: &Node, file: &Arc<SourceFile>) {
        if self.options.secret_settings.is_some() {
            return;
        }
        let mut reading = Reading::new(Arc::clone(file));
        let path = ConfigPath::root().key("secrets");
        if let Some(written) = secrets_table().read(node, &At::here(&path), &mut reading) {
            let base = Path::new(&file.name).parent().unwrap_or(Path::new(""));
            let settings = check::secret_settings(written, base);
            self.vault = Vault::new(self.options.secrets.clone(), settings);
        }
    }

    /// Whether a document of this form may say where secrets are.
    pub(crate) fn says_where(form: Form) -> bool {
        matches!(form, Form::Whole | Form::Wrapped)
    }
}
