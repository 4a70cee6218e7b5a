//! A configuration on its way to a fleet: the text of its files, and which modules belong to it by their bytes.
//!
//! Variables in the text stay as they are written: each worker fills in its own, so secrets stay where they are.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use etl_config::{LoadOptions, Loaded, Report};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{AdapterError, AdapterErrorKind};

/// A configuration with its modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Of this text itself, so that a later program can tell what an earlier one wrote.
    format: u32,
    /// Whether the configuration is a folder; otherwise it is the one file.
    folder: bool,
    files: Vec<File>,
    modules: Vec<Module>,
    /// Who pushed it, as `user@host`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pushed_by: String,
    /// When, in Unix milliseconds.
    #[serde(default)]
    pub pushed_at: u64,
    /// The bytes of modules by their SHA-256, where they are at hand.
    #[serde(skip)]
    contents: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    /// Relative to the configuration's folder, with slashes.
    name: String,
    text: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Module {
    id: String,
    sha256: String,
    /// Of the new version that is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    canary: Option<String>,
}

const FORMAT: u32 = 1;

impl Bundle {
    /// Reads everything that a configuration consists of. `path` is what it was loaded from.
    ///
    /// # Errors
    ///
    /// A file or a module cannot be read.
    pub fn read(path: &Path, loaded: &Loaded) -> Result<Self, AdapterError> {
        let folder = path.is_dir();
        let base = if folder {
            path
        } else {
            path.parent().unwrap_or(Path::new(""))
        };
        let mut files = Vec::new();
        for file in &loaded.files {
            let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
            let name = file.strip_prefix(base).unwrap_or(file);
            let name: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
            files.push(File {
                name: name.join("/"),
                text,
            });
        }
        let mut contents = BTreeMap::new();
        let mut add = |file: &Path| {
            let bytes = loaded
                .read_module(file)
                .map_err(|error| unreadable(file, error))?;
            let hash = sha256(&bytes);
            contents.insert(hash.clone(), bytes);
            Ok::<_, AdapterError>(hash)
        };
        let mut modules = Vec::new();
        for module in &loaded.config.modules {
            let canary = module.canary.as_ref();
            modules.push(Module {
                id: module.id.clone(),
                sha256: add(&module.file)?,
                canary: canary.map(|canary| add(&canary.file)).transpose()?,
            });
        }
        Ok(Self {
            format: FORMAT,
            folder,
            files,
            modules,
            pushed_by: String::new(),
            pushed_at: 0,
            contents,
        })
    }

    /// Whether workers could not tell them apart.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.folder, &self.files, &self.modules) == (other.folder, &other.files, &other.modules)
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let bundle: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if bundle.format != FORMAT {
            return Err(format!(
                "it has format {}, and this program reads {FORMAT}",
                bundle.format
            ));
        }
        Ok(bundle)
    }

    /// Modules at hand, by their SHA-256.
    pub(super) fn contents(&self) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        self.contents.iter()
    }

    /// Of every module that it needs.
    pub fn hashes(&self) -> Vec<&str> {
        let modules = self.modules.iter();
        let all = modules.flat_map(|module| [Some(&module.sha256), module.canary.as_ref()]);
        all.flatten().map(String::as_str).collect()
    }

    /// How many modules it has.
    pub fn modules(&self) -> usize {
        self.modules.len()
    }

    /// Puts its files into `folder` and loads it from there, with the modules that [`Fleet::download`](super::Fleet::download) put
    /// into `modules`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it; the outer error: the files cannot be written.
    pub fn load(
        &self,
        folder: &Path,
        modules: &Path,
        options: &LoadOptions,
    ) -> Result<Result<Loaded, Report>, AdapterError> {
        let mut root = folder.to_owned();
        for file in &self.files {
            let path = inside(folder, &file.name)?;
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(|error| super::io(parent, error))?;
            }
            std::fs::write(&path, &file.text).map_err(|error| super::io(&path, error))?;
            if !self.folder {
                root = path;
            }
        }
        // Modules that are not declared are looked for there by their names, now and whenever the configuration is edited: on this worker's own
        // disk may be others.
        let named = folder.join("modules");
        let options = options.clone().modules_dir(&named);
        let mut loaded = match etl_config::load(&root, &options) {
            Ok(loaded) => loaded,
            Err(report) => return Ok(Err(report)),
        };
        for declaration in &mut loaded.config.modules {
            let Some(module) = self
                .modules
                .iter()
                .find(|module| module.id == declaration.id)
            else {
                // A variable of this worker names another module than on the desk where it was pushed.
                continue;
            };
            let file = modules.join(format!("{}.wasm", module.sha256));
            if declaration.file.parent() == Some(&*named) && !declaration.file.exists() {
                std::fs::create_dir_all(&named).map_err(|error| super::io(&named, error))?;
                std::fs::hard_link(&file, &declaration.file)
                    .map_err(|error| super::io(&declaration.file, error))?;
            }
            declaration.file = file;
            if let (Some(canary), Some(sha256)) = (&mut declaration.canary, &module.canary) {
                canary.file = modules.join(format!("{sha256}.wasm"));
            }
        }
        Ok(Ok(loaded))
    }
}

/// A path that stays in its folder, whatever the server says.
fn inside(folder: &Path, name: &str) -> Result<PathBuf, AdapterError> {
    let relative = Path::new(name);
    let plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !plain || name.is_empty() {
        return Err(AdapterError::new(
            AdapterErrorKind::Corrupt,
            format!("the fleet's configuration has a file `{name}`, which leads out of its folder"),
        ));
    }
    Ok(folder.join(relative))
}

fn unreadable(file: &Path, error: std::io::Error) -> AdapterError {
    AdapterError::from_io(format_args!("cannot read {}", file.display()), error)
}

/// In hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_stay_in_their_folder() {
        let folder = Path::new("/somewhere");
        assert!(inside(folder, "pipelines/a.toml").is_ok());
        for name in ["../a", "/etc/passwd", "a/../../b", ""] {
            assert!(inside(folder, name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_later_format_is_refused() {
        let error = Bundle::from_json(br#"{"format":2,"folder":false,"files":[],"modules":[]}"#);
        assert!(error.expect_err("refused").contains("format 2"));
    }

    #[test]
    fn a_folder_is_the_same_elsewhere() {
        let desk = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &[u8]| {
            let path = desk.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        put(
            "desk/etl.toml",
            b"[[modules]]\nid = \"m\"\npath = \"../elsewhere/m.wasm\"\n",
        );
        put("desk/pipelines/p.toml", b"pipeline_id = \"${NAME}\"\n[[stages]]\npriority = 0\nmodules = [{ module_id = \"m\" }]\n");
        put("elsewhere/m.wasm", b"\0asm");
        let path = desk.path().join("desk");
        let options = LoadOptions::isolated().variable("NAME", "here");
        let loaded = etl_config::load(&path, &options).expect("it can be used");
        let bundle = Bundle::read(&path, &loaded).expect("it can be read");
        let there = Bundle::from_json(bundle.to_json().as_bytes()).expect("it comes back");
        assert!(bundle.is_same(&there));
        let options = LoadOptions::isolated().variable("NAME", "there");
        let loaded = there
            .load(&desk.path().join("worker"), Path::new("/modules"), &options)
            .expect("it can be written")
            .expect("it can be used");
        assert_eq!(loaded.config.pipelines[0].id, "there");
        let expected = format!("/modules/{}.wasm", sha256(b"\0asm"));
        assert_eq!(loaded.config.modules[0].file, Path::new(&expected));
        let refused = there.load(
            &desk.path().join("other"),
            Path::new("/modules"),
            &LoadOptions::isolated(),
        );
        assert!(refused.expect("it can be written").is_err());
    }
}
