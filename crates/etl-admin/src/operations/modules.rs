//! Modules: listed, uploaded, taken away; new versions put on trial, tried harder, promoted, rolled back.
//!
//! A module that is uploaded becomes a file of its own in the configuration's `modules_dir`, whose name holds a part of its digest, so
//! that nothing is ever written over a module that may be running, and the declaration pins the digest. What is refused, and what was
//! only tried, leaves no file.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use etl_config::{CanaryMode, Edit, EditText, Loaded, ModuleDeclaration};
use etl_orchestrator::{CanaryStatus, Handled, ModuleEntry};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{changed, changed_meanwhile, edit, tagged};
use crate::access::hex;
use crate::answer::Answer;
use crate::call::Call;
use crate::secrets::{self, Key};
use crate::site::Site;

pub(crate) fn list(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let generation = site.orchestrator.generation();
    let canaries = site.orchestrator.canaries();
    let is_confined = call
        .identity
        .as_ref()
        .is_some_and(|identity| !identity.scope.is_everything());
    let modules: Vec<Value> = site
        .orchestrator
        .modules()
        .iter()
        .filter(|module| !is_confined || module.used_by.iter().any(|user| call.reaches(user)))
        .map(|module| shown(module, &canaries, call))
        .collect();
    let value = json!({ "generation": generation, "modules": modules });
    Ok(tagged(generation, &value))
}

pub(crate) fn get(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let id = call.parameter("id");
    let generation = site.orchestrator.generation();
    let modules = site.orchestrator.modules();
    let mut modules = modules.iter();
    let module = modules.find(|module| module.id == id);
    let module = module.ok_or_else(|| unknown(id))?;
    let module = shown(module, &site.orchestrator.canaries(), call);
    let value = json!({ "generation": generation, "module": module });
    Ok(tagged(generation, &value))
}

fn shown(module: &ModuleEntry, canaries: &[CanaryStatus], call: &Call) -> Value {
    let trials: Vec<Value> = canaries
        .iter()
        .filter(|canary| *canary.module == *module.id)
        .map(trial)
        .collect();
    let users = module.used_by.iter().filter(|user| call.reaches(user));
    json!({
        "id": module.id,
        "file": module.file.display().to_string(),
        "sha256": module.sha256.as_deref(),
        "used_by": users.collect::<Vec<_>>(),
        "trials": trials,
    })
}

fn trial(canary: &CanaryStatus) -> Value {
    let handled =
        |handled: Handled| json!({ "records": handled.records, "failed": handled.failed });
    json!({
        "running": canary.running,
        "mode": canary.mode.name(),
        "percent": canary.percent,
        "stable_sha256": canary.stable_sha256.as_deref(),
        "canary_sha256": canary.canary_sha256.as_deref(),
        "stable": handled(canary.stable),
        "canary": handled(canary.canary),
        "different": canary.different,
        "skipped": canary.skipped,
    })
}

pub(crate) fn put(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let id = call.parameter("id");
    with_file(site, call, |loaded, upload| {
        let declaration = json!({ "id": id, "path": upload.path(), "sha256": upload.sha256 });
        Ok(vec![declare(loaded, id, &declaration)])
    })
}

pub(crate) fn put_canary(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let id = call.parameter("id");
    with_file(site, call, |loaded, upload| {
        let module = loaded.config.module(id).ok_or_else(|| unknown(id))?;
        let mut canary = Map::new();
        canary.insert("path".to_owned(), upload.path().into());
        canary.insert("sha256".to_owned(), upload.sha256.clone().into());
        for name in ["percent", "mode", "max_error_increase", "min_samples"] {
            if let Some(value) = call.query(name) {
                // Numbers are numbers, and what is no number is a word; both were checked.
                let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
                canary.insert(name.to_owned(), value);
            }
        }
        let mut declaration = stable(module);
        declaration["canary"] = canary.into();
        Ok(vec![declare(loaded, id, &declaration)])
    })
}

pub(crate) fn patch_canary(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let id = call.parameter("id");
    let settings: Value = serde_json::from_slice(&call.body)
        .map_err(|error| Answer::problem(400, format!("the body is not JSON: {error}")))?;
    let settings = settings
        .as_object()
        .ok_or_else(|| Answer::problem(400, "the body is not an object"))?;
    if let Some(name) = settings.keys().find(|name| {
        !matches!(
            name.as_str(),
            "percent" | "mode" | "max_error_increase" | "min_samples"
        )
    }) {
        let detail = format!(
            "{name:?} cannot be changed: there are percent, mode, max_error_increase and min_samples"
        );
        return Err(Answer::problem(422, detail));
    }
    edit(site, call, |loaded| {
        let module = loaded.config.module(id).ok_or_else(|| unknown(id))?;
        let canary = module
            .canary
            .as_ref()
            .ok_or_else(|| Answer::problem(404, format!("no new version of {id:?} is on trial")))?;
        let mut declaration = stable(module);
        declaration["canary"] = json!({
            "path": absolute(&canary.file)?,
            "mode": if canary.mode == CanaryMode::Shadow { "shadow" } else { "canary" },
            "percent": canary.percent,
            "max_error_increase": canary.max_error_increase,
            "min_samples": canary.min_samples,
        });
        if let Some(sha256) = &canary.sha256 {
            declaration["canary"]["sha256"] = hex(sha256).into();
        }
        for (name, value) in settings {
            declaration["canary"][name] = value.clone();
        }
        Ok(vec![declare(loaded, id, &declaration)])
    })
}

pub(crate) fn delete(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let id = call.parameter("id");
    edit(site, call, |loaded| {
        let module = loaded.config.module(id).ok_or_else(|| unknown(id))?;
        if is_declared(module) {
            Ok(vec![Edit::RemoveModule(id.to_owned())])
        } else {
            let detail = format!(
                "the module {id:?} is not declared but found in a folder: it goes with its last use"
            );
            Err(Answer::problem(422, detail))
        }
    })
}

pub(crate) fn promote(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let options = call.change();
    changed(
        site.orchestrator.promote(call.parameter("id"), &options),
        &options,
    )
}

pub(crate) fn roll_back(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let options = call.change();
    let id = call.parameter("id");
    changed(site.orchestrator.roll_back_canary(id, &options), &options)
}

fn unknown(id: &str) -> Answer {
    Answer::problem(404, format!("no module is called {id:?}"))
}

/// Whether it has an entry of its own under `modules`.
fn is_declared(module: &ModuleDeclaration) -> bool {
    module.path.to_string().starts_with("modules[")
}

fn declare(loaded: &Loaded, id: &str, declaration: &Value) -> Edit {
    let text = EditText::new(format!("{id}.json"), declaration.to_string());
    if loaded.config.module(id).is_some_and(is_declared) {
        Edit::ReplaceModule(text)
    } else {
        Edit::AddModule(text)
    }
}

/// A module's declaration without its new version.
fn stable(module: &ModuleDeclaration) -> Value {
    // Edits have no folder of their own that relative paths could be relative to but the one where we are.
    let path = std::path::absolute(&module.file).unwrap_or_else(|_| module.file.clone());
    let mut declaration = json!({ "id": module.id, "path": path.display().to_string() });
    if let Some(sha256) = &module.sha256 {
        declaration["sha256"] = hex(sha256).into();
    }
    declaration
}

fn absolute(path: &Path) -> Result<String, Answer> {
    let path = std::path::absolute(path).map_err(|error| not_stored(path, &error))?;
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Answer::problem(422, format!("{} is not text", path.display())))
}

fn not_stored(path: &Path, error: &io::Error) -> Answer {
    let is_full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    );
    let status = if is_full { 507 } else { 500 };
    tracing::error!(path = %path.display(), %error, "cannot store a module");
    Answer::problem(
        status,
        format!("{} cannot be stored: {error}", path.display()),
    )
}

/// A module's file, which goes again unless it is kept.
struct Upload {
    path: String,
    sha256: String,
    /// Whether it was there before, or is to stay.
    stays: bool,
}

/// Bytes of an id that stand in the name of a file: systems allow 255 for all of it.
const ID_BYTES: usize = 200;

impl Upload {
    fn path(&self) -> &str {
        &self.path
    }

    /// Writes a module into the folder of modules; encrypted where there is a key.
    fn store(folder: &Path, id: &str, bytes: &[u8], key: Option<&Key>) -> Result<Self, Answer> {
        let sha256 = hex(&Sha256::digest(bytes));
        // The id is there for people: which module a file holds, its digest says.
        let id = &id[..id.floor_char_boundary(ID_BYTES)];
        let path = folder.join(format!("{id}.{}.wasm", &sha256[..16]));
        let stays = path.exists();
        if stays {
            is_there(&path, &sha256, key)?;
        } else {
            let sealed = key.map(|key| secrets::seal(key, bytes)).transpose();
            let sealed = sealed.map_err(|error| not_stored(&path, &io::Error::other(error)))?;
            let content = sealed.map_or(Cow::Borrowed(bytes), Cow::Owned);
            fs::create_dir_all(folder)
                .and_then(|()| secrets::replace(&path, &content))
                .map_err(|error| not_stored(&path, &error))?;
        }
        Ok(Self {
            path: absolute(&path)?,
            sha256,
            stays,
        })
    }
}

/// That a file that was there before holds the module: it may be of another key, and is not written over.
fn is_there(path: &Path, sha256: &str, key: Option<&Key>) -> Result<(), Answer> {
    let stored = fs::read(path).map_err(|error| not_stored(path, &error))?;
    let digest = match key {
        Some(key) if secrets::is_sealed(&stored) => {
            let plain = secrets::open(key, path, &stored);
            Sha256::digest(&*plain.map_err(|error| Answer::problem(422, error.to_string()))?)
        }
        _ => Sha256::digest(&stored),
    };
    if hex(&digest) == sha256 {
        return Ok(());
    }
    let path = path.display();
    let what = match secrets::is_sealed(&stored) && key.is_none() {
        true => "is encrypted, and no key is given",
        false => "is not this module; move it away",
    };
    let detail = format!("{path} is there and {what}");
    Err(Answer::problem(422, detail))
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.stays
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = self.path, %error, "a module that was refused stays");
        }
    }
}

/// Stores the body of a call, and makes the edits that use it.
fn with_file(
    site: &Site,
    call: &Call,
    compose: impl Fn(&Loaded, &Upload) -> Result<Vec<Edit>, Answer>,
) -> Result<Answer, Answer> {
    let generation = site.orchestrator.generation();
    let folder: Option<PathBuf> = site
        .orchestrator
        .read_configuration(generation, |loaded| loaded.config.modules_dir.clone());
    let folder = folder.ok_or_else(changed_meanwhile)?;
    let key = site.host.key().map_err(|error| {
        tracing::error!(%error, "cannot store a module");
        Answer::problem(500, error.to_string())
    })?;
    let mut upload = Upload::store(&folder, call.parameter("id"), &call.body, key.as_ref())?;
    let answer = edit(site, call, |loaded| compose(loaded, &upload))?;
    upload.stays |= !call.change().dry_run;
    Ok(answer)
}
