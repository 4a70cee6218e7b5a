//! `cargo xtask guests`: builds every guest module of the repository to `target/guests/<module_id>.wasm`.
//!
//! A guest is a package that builds a `cdylib` under `docs/examples/` or `tests/guests/`; its module id is the package's name. All are built by one
//! cargo call with the profile `guest`, in a target folder of their own: with the host's flags and features out of the way, neither build ever
//! invalidates the other. A module whose bytes did not change is not rewritten, so watchers and caches that go by its time stay quiet; one that
//! did change is replaced by rename, so nobody reads half of it. A file in the folder that no guest builds any more is removed.
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
    let built = build(&process::repository_root(), &arguments.only)?;
    for guest in &built {
        let note = if guest.rewritten { "" } else { "  (unchanged)" };
        eprintln!("{:>9} bytes  {}{note}", guest.bytes, guest.shown);
    }
    Ok(())
}

/// A module that now lies in `target/guests`.
pub struct Guest {
    /// Where, from the top of the repository.
    pub shown: String,
    /// Its size.
    pub bytes: usize,
    /// Whether its bytes are new.
    pub rewritten: bool,
}

/// Builds the guests named in `only`, or all of them, and returns them in the order of their names.
pub fn build(root: &Path, only: &[String]) -> Result<Vec<Guest>, String> {
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
    if wanted.is_empty() {
        return Ok(Vec::new());
    }

    ensure_target(root)?;
    let artefacts = compile(
        root,
        &workspace.target_directory.join("guest-build"),
        &wanted,
    )?;
    let mut built = Vec::new();
    for name in &wanted {
        let artefact = artefacts
            .iter()
            .find(|(package, _)| package == name)
            .ok_or_else(|| {
                format!("cargo built no .wasm for `{name}`; its crate-type must hold \"cdylib\"")
            })?;
        let bytes = fs::read(&artefact.1)
            .map_err(|error| format!("cannot read {}: {error}", artefact.1.display()))?;
        let file_name = format!("{name}.wasm");
        let rewritten = replace_if_changed(&folder.join(&file_name), &bytes)?;
        built.push(Guest {
            shown: format!("target/guests/{file_name}"),
            bytes: bytes.len(),
            rewritten,
        });
    }
    remove_orphans(&folder, &all)?;
    Ok(built)
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

/// One cargo call for all of them; returns each package's .wasm.
fn compile(
    root: &Path,
    target_directory: &Path,
    names: &BTreeSet<&str>,
) -> Result<Vec<(String, PathBuf)>, String> {
    let mut command = process::cargo(root);
    command
        .args([
            "build",
            "--target",
            TARGET,
            "--profile",
            "guest",
            "--lib",
            "--target-dir",
        ])
        .arg(target_directory);
    for name in names {
        command.args(["--package", name]);
    }
    // Flags meant for the host (a CPU, a linker, -D warnings) would break or rebuild the guests.
    command
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET");
    Ok(process::cargo_messages(&mut command)?
        .iter()
        .filter_map(artefact)
        .collect())
}

/// The package and the .wasm of a `compiler-artifact` message.
fn artefact(message: &Value) -> Option<(String, PathBuf)> {
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let wasm = message["filenames"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .find(|name| name.ends_with(".wasm"))?;
    // The target's name is the package's with underscores, unless [lib] renames it; the manifest's folder does not tell, the id does.
    Some((
        package_name(message["package_id"].as_str()?)?.to_owned(),
        PathBuf::from(wasm),
    ))
}

/// The name in a package id: `path+file:///…/folder#name@1.0.0`, or `…/name#1.0.0` where the folder is called as the package.
fn package_name(id: &str) -> Option<&str> {
    let (path, fragment) = id.rsplit_once('#')?;
    match fragment.split_once('@') {
        Some((name, _version)) => Some(name),
        None => path.rsplit(['/', '\\']).next(),
    }
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
    fn an_artefact_names_its_package_in_both_forms_of_the_id() {
        let message = |id: &str| json!({"reason": "compiler-artifact", "package_id": id, "filenames": ["/t/a_b.d", "/t/a_b.wasm"]});
        let expected = Some(("a-b".to_owned(), PathBuf::from("/t/a_b.wasm")));
        assert_eq!(
            artefact(&message("path+file:///repository/docs/examples/a-b#0.1.0")),
            expected
        );
        assert_eq!(
            artefact(&message(
                "path+file:///repository/docs/examples/folder#a-b@0.1.0"
            )),
            expected
        );
        assert_eq!(
            artefact(&json!({"reason": "build-finished", "success": true})),
            None
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
