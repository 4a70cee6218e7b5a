//! `etl secret`: the values that configurations name by `${secret:NAME}`, and the key that opens them.
//!
//! A value comes from standard input or from a prompt that does not show it, never from the command line, which every process on the
//! machine may read. Nothing that is printed here holds one.

mod arguments;
mod dumps;
mod prompt;

pub use arguments::{SecretArguments, SecretOptions};

use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use etl_admin::secrets::{self, Keeper, Key, Listed, SecretStore};
use etl_config::{LoadOptions, Secret, SecretError, SecretSettings};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::configuration;
use crate::exit::Exit;
use crate::output::{self, counted, tell};
use crate::run::GENERATIONS;
use arguments::{
    KeyCommand, ListOptions, PlaceOptions, RemoveOptions, RotateOptions, SecretCommand, SetOptions,
};

/// More than this is no secret.
const MOST_BYTES: u64 = 64 << 10;

/// Whoever lends secrets to a configuration that is loaded.
pub fn keeper(options: &SecretOptions) -> Arc<Keeper> {
    Arc::new(Keeper {
        file: options.secrets.clone(),
        key: options.secret_key.clone(),
        before: Some(dumps::forbid),
    })
}

/// Where secrets are for documents that come from others, who must not say what is read or run here.
pub fn settings_of_ones_own(options: &SecretOptions) -> SecretSettings {
    let file = options.secrets.clone();
    SecretSettings::in_file(file.unwrap_or_else(|| "etl.secrets".into()))
}

/// Runs the command.
pub fn run(arguments: &SecretArguments) -> Result<(), Exit> {
    match &arguments.command {
        SecretCommand::Set(options) => set(options),
        SecretCommand::List(options) => list(options),
        SecretCommand::Remove(options) => remove(options),
        SecretCommand::Rotate(options) => rotate(options),
        SecretCommand::Key(KeyCommand::Generate(options)) => generate(options.file.as_deref()),
    }
}

fn failed(error: SecretError) -> Exit {
    Exit::failed(error)
}

/// The store that a command means, with what else it needs to know of it.
struct Place {
    keeper: Arc<Keeper>,
    settings: SecretSettings,
    modules: PathBuf,
    file: PathBuf,
    store: SecretStore,
}

impl Place {
    fn of(options: &PlaceOptions) -> Result<Self, Exit> {
        let keeper = keeper(&options.secrets);
        let beside = Path::new("etl.toml");
        let config = options.config.as_deref();
        let config = config.or_else(|| beside.exists().then_some(beside));
        let (settings, modules) = match config {
            Some(config) => etl_config::secret_settings(config, &LoadOptions::default())
                .map_err(|report| configuration::refuse(&report, false))?,
            None => (SecretSettings::in_file("etl.secrets"), "modules".into()),
        };
        let file = keeper.file.clone();
        Ok(Self {
            file: file.unwrap_or_else(|| settings.file.clone()),
            store: keeper.store(&settings),
            keeper,
            settings,
            modules,
        })
    }

    fn key(&self) -> Result<Key, Exit> {
        let key = self.keeper.needed_key(&self.settings, &self.file);
        key.map_err(failed)
    }
}

fn set(options: &SetOptions) -> Result<(), Exit> {
    let place = Place::of(&options.place)?;
    // Before anybody types a value for nothing.
    let key = place.key()?;
    place.store.list(&key).map_err(failed)?;
    let value = value(&options.name)?;
    let is_new = place
        .store
        .set(&key, &options.name, value)
        .map_err(failed)?;
    let (name, file) = (&options.name, place.file.display());
    if options.json {
        return output::print_json(
            &json!({ "name": name, "file": file.to_string(), "new": is_new }),
        );
    }
    tell!("etl: {name} is set in {file}");
    Ok(())
}

/// The value that is being set, without the line feed that ends it.
fn value(name: &str) -> Result<Secret, Exit> {
    if io::stdin().is_terminal() {
        return prompt::ask(&format!("Value of {name} (it is not shown): "));
    }
    let unreadable = |error| Exit::failed(format_args!("cannot read standard input: {error}"));
    // As large as it can become, so that it never moves and leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES as usize + 3));
    io::stdin()
        .lock()
        .take(MOST_BYTES + 3)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Exit::failed("the value on standard input is not UTF-8 text"))?;
    let text = text
        .strip_suffix("\r\n")
        .or(text.strip_suffix('\n'))
        .unwrap_or(text);
    if text.is_empty() {
        return Err(Exit::failed(
            "there is no value on standard input; nothing was set",
        ));
    }
    Ok(Secret::new(Zeroizing::new(text.to_owned())))
}

fn list(options: &ListOptions) -> Result<(), Exit> {
    let place = Place::of(&options.place)?;
    let key = place.key()?;
    let listed = place.store.list(&key).map_err(failed)?;
    if options.json {
        return output::print_json(&json!({
            "file": place.file.display().to_string(),
            "key": key.id().to_string(),
            "secrets": listed.iter().map(Listed::to_json).collect::<Vec<Value>>(),
        }));
    }
    if listed.is_empty() {
        tell!("etl: there are no secrets in {}", place.file.display());
        return Ok(());
    }
    let width = listed.iter().map(|secret| secret.name.len()).max();
    let width = width.unwrap_or_default();
    let lines = listed.iter().map(|secret| {
        let (created, changed) = (written(secret.created), written(secret.changed));
        format!("{:<width$}  set {changed}, first {created}\n", secret.name)
    });
    output::print(&lines.collect::<String>())
}

fn remove(options: &RemoveOptions) -> Result<(), Exit> {
    let place = Place::of(&options.place)?;
    let key = place.key()?;
    place.store.remove(&key, &options.name).map_err(failed)?;
    let (name, file) = (&options.name, place.file.display());
    if options.json {
        return output::print_json(&json!({ "name": name, "file": file.to_string() }));
    }
    tell!("etl: {name} is no more in {file}");
    Ok(())
}

fn rotate(options: &RotateOptions) -> Result<(), Exit> {
    let place = Place::of(&options.place)?;
    let old = place.key()?;
    let new = Key::read(&options.new_key).map_err(failed)?;
    let folders = match options.modules.as_slice() {
        [] => std::slice::from_ref(&place.modules),
        given => given,
    };
    // The secrets last: until all is done, whatever reads them still has the old key.
    let modules = secrets::rotate_files(&old, &new, folders).map_err(failed)?;
    let generations = options.admin.admin_dir.join(GENERATIONS);
    let their_modules = generations.join("modules");
    secrets::rotate_files(&old, &new, &[their_modules]).map_err(failed)?;
    let generations = secrets::rotate_files(&old, &new, &[generations]).map_err(failed)?;
    let secrets = match place.store.key_id().map_err(failed)? {
        None => 0,
        Some(_) => place.store.rotate(&old, &new).map_err(failed)?,
    };
    if options.json {
        return output::print_json(&json!({
            "file": place.file.display().to_string(),
            "key": new.id().to_string(),
            "secrets": secrets,
            "modules": modules,
            "generations": generations,
        }));
    }
    tell!(
        "etl: {} and {} are encrypted with the key {} now",
        counted(secrets as u64, "secret"),
        match generations {
            0 => counted(modules as u64, "module"),
            kept => format!(
                "{}, and {}",
                counted(modules as u64, "module"),
                counted(kept as u64, "generation")
            ),
        },
        new.id()
    );
    Ok(())
}

fn generate(file: Option<&Path>) -> Result<(), Exit> {
    let key = Key::generate().map_err(failed)?;
    let mut line = key.reveal();
    line.reserve_exact(1);
    line.push('\n');
    let Some(file) = file else {
        return output::print(&line);
    };
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    made.and_then(|mut made| {
        made.write_all(line.as_bytes())?;
        made.sync_all()
    })
    .map_err(|error| Exit::failed(format_args!("{}: {error}", file.display())))?;
    output::print(&format!("{}\n", key.id()))
}

/// Seconds since 1970 as a moment.
fn written(seconds: u64) -> String {
    // What cannot be written as a moment is so far away that it is never.
    const LAST: u64 = 253_402_300_799;
    let moment = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST));
    humantime::format_rfc3339_seconds(moment).to_string()
}
