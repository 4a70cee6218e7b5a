//! `cargo xtask guests`: builds every guest module of the repository to `target/guests/<module_id>.wasm`.
//!
//! A guest is a package that builds a `cdylib` under `docs/examples/` or `tests/guests/`; its module id is the package's name. Each is built by a
//! cargo call of its own, so that what one guest turns on in a library is not on in another, with the profile `guest` and in a target folder apart
//! from the host's, so that neither build ever invalidates the other. A module whose bytes did not change is not rewritten, so watchers and caches
//! that go by its time stay quiet; one that did is replaced by rename, so nobody reads half of it. A file that no guest builds any more is removed.
//!
//! The folder is `target/guests` of the repository even where `CARGO_TARGET_DIR` points elsewhere: examples find their modules by relative path.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::metadata::{self, Package};
use crate::process;

const TARGET: &str = "wasm32-unknown-unknown";

/// Where guests live.
pub const HOMES: &[&str] = &["docs/examples/", "tests/guests/"];

/// Options of `cargo xtask guests`.
#[derive(clap::Args)]
#[command(
    long_about = "Build every guest module to target/guests/<module_id>.wasm\n\n\
                  A guest is a package under docs/examples/ or tests/guests/ that builds a cdylib; its module id is the package's name.\n\
                  To add one: a folder with a Cargo.toml (crate-type = [\"cdylib\", \"rlib\"], depending on etl-sdk) and one function.\n\
                  The wasm target is installed by rustup if it is not there."
)]
pub struct Arguments {
    /// Build only these modules (by module id); the others' files stay as they are
    #[arg(value_name = "MODULE_ID")]
    only: Vec<String>,
}

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let count = build(&process::repository_root(), &arguments.only)?;
    eprintln!("{count} modules are up to date in target/guests");
    Ok(())
}

/// Builds the guests named in `only`, or all of them, names those that changed, and returns how many there are.
pub fn build(root: &Path, only: &[String]) -> Result<usize, String> {
    let workspace = metadata::load(root)?;
    let all: BTreeSet<&str> = workspace
        .packages
        .iter()
        .filter(|package| is_guest(package))
        .map(|package| package.name.as_str())
        .collect();
    for name in only {
        if !all.contains(name.as_str()) {
            let known = all.iter().copied().collect::<Vec<_>>().join(", ");
            return Err(format!(
                "there is no guest module `{name}`; there are: {known}"
            ));
        }
    }
    let wanted: BTreeSet<&str> = all
        .iter()
        .copied()
        .filter(|name| only.is_empty() || only.iter().any(|one| one == name))
        .collect();
    let folder = root.join("target/guests");
    fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    if !wanted.is_empty() {
        ensure_target(root)?;
    }
    for name in &wanted {
        let artefact = compile(root, &workspace.target_directory.join("guest-build"), name)?;
        let bytes = fs::read(&artefact)
            .map_err(|error| format!("cannot read {}: {error}", artefact.display()))?;
        if replace_if_changed(&folder.join(format!("{name}.wasm")), &bytes)? {
            eprintln!("{:>9} bytes  target/guests/{name}.wasm", bytes.len());
        }
    }
    remove_orphans(&folder, &all)?;
    Ok(wanted.len())
}

/// Whether the package is a guest module of this repository.
pub fn is_guest(package: &Package) -> bool {
    package.is_cdylib && HOMES.iter().any(|home| package.manifest.starts_with(home))
}

/// Makes sure that rustc can compile for wasm, asking rustup where it cannot yet.
fn ensure_target(root: &Path) -> Result<(), String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let library = process::output(Command::new(rustc).current_dir(root).args([
        "--print",
        "target-libdir",
        "--target",
        TARGET,
    ]))?;
    if Path::new(library.trim()).is_dir() {
        return Ok(());
    }
    eprintln!("the {TARGET} target is not installed yet: asking rustup for it");
    process::run(Command::new("rustup").current_dir(root).args(["target", "add", TARGET]))
        .map_err(|error| format!("{error}\n    guests need the {TARGET} target: install it, with rustup or as your system's Rust packages name it"))
}

/// Compiles one guest and returns its .wasm.
fn compile(root: &Path, target_directory: &Path, name: &str) -> Result<PathBuf, String> {
    let mut command = process::cargo(root);
    command
        .args([
            "build",
            "--quiet",
            "--package",
            name,
            "--lib",
            "--target",
            TARGET,
            "--profile",
            "guest",
            "--target-dir",
        ])
        .arg(target_directory);
    // Flags meant for the host (a CPU, a linker, -D warnings) would break or rebuild the guests.
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET");
    let messages = process::cargo_messages(&mut command)?;
    messages
        .iter()
        .find_map(module_file)
        .ok_or_else(|| format!("cargo built no .wasm for `{name}`"))
}

/// The .wasm of a `compiler-artifact` message: of a guest's packages only its own is a module.
fn module_file(message: &Value) -> Option<PathBuf> {
    let names = message["filenames"].as_array()?;
    names
        .iter()
        .filter_map(Value::as_str)
        .find(|name| name.ends_with(".wasm"))
        .map(PathBuf::from)
}

/// Writes the file by rename, unless it already holds these bytes; says whether it did.
fn replace_if_changed(path: &Path, bytes: &[u8]) -> Result<bool, String> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let temporary = path.with_extension(format!("wasm.{}.part", std::process::id()));
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(true)
}

/// Removes modules that no package builds any more: a test must not pass against the past.
fn remove_orphans(folder: &Path, names: &BTreeSet<&str>) -> Result<(), String> {
    let entries = fs::read_dir(folder)
        .map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_module = path
            .extension()
            .is_some_and(|extension| extension == "wasm");
        let is_known = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .is_some_and(|stem| names.contains(stem));
        if is_module && !is_known {
            fs::remove_file(&path)
                .map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::fixture::Fixture;
    use serde_json::json;

    #[test]
    fn the_module_is_found_among_cargos_messages() {
        let messages = [
            json!({"reason": "compiler-artifact", "filenames": ["/t/libserde.rlib", "/t/libserde.rmeta"]}),
            json!({"reason": "compiler-artifact", "filenames": ["/t/a_b.d", "/t/a_b.wasm"]}),
            json!({"reason": "build-finished", "success": true}),
        ];
        assert_eq!(
            messages.iter().find_map(module_file),
            Some(PathBuf::from("/t/a_b.wasm"))
        );
    }

    #[test]
    fn an_unchanged_module_keeps_its_file() {
        let fixture = Fixture::new("guests-unchanged");
        let path = fixture.root().join("a.wasm");
        assert!(replace_if_changed(&path, b"one").expect("writes"));
        let before = fs::metadata(&path)
            .expect("exists")
            .modified()
            .expect("has a time");
        assert!(!replace_if_changed(&path, b"one").expect("reads"));
        assert_eq!(
            fs::metadata(&path)
                .expect("exists")
                .modified()
                .expect("has a time"),
            before
        );
        assert!(replace_if_changed(&path, b"two").expect("writes"));
        assert_eq!(fs::read(&path).expect("exists"), b"two");
        assert_eq!(
            fs::read_dir(fixture.root()).expect("exists").count(),
            1,
            "no temporary file stays behind"
        );
    }

    #[test]
    fn a_module_that_nobody_builds_is_removed_and_other_files_stay() {
        let fixture = Fixture::new("guests-orphans");
        fixture
            .write("known.wasm", "")
            .write("gone.wasm", "")
            .write("notes.txt", "");
        remove_orphans(fixture.root(), &BTreeSet::from(["known"])).expect("lists");
        assert!(fixture.root().join("known.wasm").exists());
        assert!(!fixture.root().join("gone.wasm").exists());
        assert!(fixture.root().join("notes.txt").exists());
    }
}
