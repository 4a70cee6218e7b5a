//! What `cargo metadata` says of the workspace, cut down to what the chores ask: packages, where they lie, what they build, whom they name.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process;

/// The packages of the workspace.
pub struct Workspace {
    /// In the order in which cargo lists them.
    pub packages: Vec<Package>,
    /// Where cargo puts what it builds.
    pub target_directory: PathBuf,
}

/// One package of the workspace.
pub struct Package {
    /// As in its manifest.
    pub name: String,
    /// The manifest's path from the top of the repository, with forward slashes.
    pub manifest: String,
    /// Whether it builds a C dynamic library, which for wasm is a module.
    pub is_cdylib: bool,
    /// Direct dependencies, of every kind.
    pub dependencies: Vec<Dependency>,
}

/// A direct dependency, as the manifest names it.
pub struct Dependency {
    /// The package's own name, not a rename.
    pub name: String,
    /// Whether only tests, examples and benchmarks see it.
    pub is_dev: bool,
    /// Whether it is a path in the workspace.
    pub is_local: bool,
}

/// Asks cargo.
pub fn load(root: &Path) -> Result<Workspace, String> {
    let text = process::output(process::cargo(root).args([
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
    ]))?;
    let value = serde_json::from_str(&text)
        .map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
    parse(&value).ok_or_else(|| {
        "cargo metadata has changed its form; xtask/src/metadata.rs must follow".to_owned()
    })
}

/// Reads the document of `cargo metadata --format-version 1`.
pub fn parse(metadata: &Value) -> Option<Workspace> {
    let root = metadata["workspace_root"].as_str()?;
    let mut packages = Vec::new();
    for package in metadata["packages"].as_array()? {
        let manifest = package["manifest_path"].as_str()?;
        let mut dependencies = Vec::new();
        for dependency in package["dependencies"].as_array()? {
            dependencies.push(Dependency {
                name: dependency["name"].as_str()?.to_owned(),
                is_dev: dependency["kind"].as_str() == Some("dev"),
                is_local: dependency["path"].is_string(),
            });
        }
        let is_cdylib = package["targets"].as_array()?.iter().any(|target| {
            target["crate_types"]
                .as_array()
                .is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
        });
        packages.push(Package {
            name: package["name"].as_str()?.to_owned(),
            manifest: manifest
                .strip_prefix(root)?
                .replace('\\', "/")
                .trim_start_matches('/')
                .to_owned(),
            is_cdylib,
            dependencies,
        });
    }
    Some(Workspace {
        packages,
        target_directory: PathBuf::from(metadata["target_directory"].as_str()?),
    })
}
