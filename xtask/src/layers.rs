//! `cargo xtask layers`: who may depend on whom.
//!
//! The table below is the map of `docs/architecture.md` in a form that a machine can check. It binds what ships (ordinary and build dependencies);
//! tests may use any crate but the program. Four more rules hold the seams: only `etl-pool` knows wasmer, and only in its engine; `etl-filter` stays
//! free of serde and tokio; nothing depends on the program; the crates that read untrusted bytes first forbid unsafe code.

use crate::guests;
use crate::metadata::{self, Package, Workspace};
use crate::process;
use crate::tidy::{Tree, lexer};
use crate::violation::{Violation, report};

/// A crate, and the crates of the workspace that it may depend on.
const TABLE: &[(&str, &[&str])] = &[
    ("etl-abi", &[]),
    ("etl-filter", &[]),
    ("etl-config", &[]),
    ("etl-pool", &["etl-abi"]),
    (
        "etl-orchestrator",
        &["etl-abi", "etl-config", "etl-filter", "etl-pool"],
    ),
    ("etl-broker-adapter", &["etl-orchestrator", "etl-config"]),
    ("etl-sdk", &["etl-abi", "etl-sdk-macros"]),
    ("etl-sdk-macros", &["etl-abi"]),
    ("etl-admin", &["etl-orchestrator", "etl-config"]),
    (
        "etl-cli",
        &[
            "etl-abi",
            "etl-admin",
            "etl-broker-adapter",
            "etl-config",
            "etl-filter",
            "etl-orchestrator",
            "etl-pool",
        ],
    ),
    ("xtask", &[]),
];

/// The one folder that may name wasmer, and the benchmarks' floors, which measure against wasmer alone.
const WASMER_PLACES: &[&str] = &["crates/etl-pool/src/engine/", "tests/benches/"];

/// Packages whose manifest may name wasmer: the pool, and the benchmarks.
const WASMER_PACKAGES: &[&str] = &["etl-pool", "etl-tests"];

/// What `etl-filter` must not reach without its optional features.
const NOT_IN_FILTER: &[&str] = &["serde", "serde_core", "serde_json", "tokio"];

/// Crates whose library says `#![forbid(unsafe_code)]`.
const FORBID_UNSAFE: &[&str] = &["etl-abi", "etl-admin", "etl-filter"];

/// Options of `cargo xtask layers`.
#[derive(clap::Args)]
#[command(
    long_about = "Check who may depend on whom, and where wasmer may appear\n\n\
                  The table is at the top of xtask/src/layers.rs, and as a picture in docs/architecture.md. A change to either changes\n\
                  the other."
)]
pub struct Arguments {}

/// Runs the chore.
pub fn run(_arguments: &Arguments) -> Result<(), String> {
    let root = process::repository_root();
    let workspace = metadata::load(&root)?;
    let reached = process::output(process::cargo(&root).args([
        "tree",
        "--package",
        "etl-filter",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    let mut violations = dependencies(&workspace);
    violations.extend(filter_reach(&reached));
    violations.extend(sources(&Tree::of_repository(&root)?));
    report(
        "layers",
        &format!("{} packages", workspace.packages.len()),
        &violations,
    )
}

/// The table, the guests, the program, and wasmer in manifests.
fn dependencies(workspace: &Workspace) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in &workspace.packages {
        let allowed = allowed(package);
        if allowed.is_none() {
            let remedy = "Give it a row in TABLE (xtask/src/layers.rs) and a place on the map in docs/architecture.md.";
            violations.push(Violation::of(
                &package.manifest,
                format!("{} is not on the map of layers", package.name),
                remedy,
            ));
        }
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            if dependency.is_local && name == "etl-cli" {
                let remedy = "Nothing depends on the program: move what both need into the crate below that it belongs to.";
                violations.push(Violation::of(
                    &package.manifest,
                    format!("{} depends on etl-cli", package.name),
                    remedy,
                ));
            } else if dependency.is_local
                && !dependency.is_dev
                && !allowed.is_none_or(|names| names.contains(&name))
            {
                let remedy = format!(
                    "Allowed are: {}. Move the code to the layer that may, or pass what it needs as an argument or a trait.",
                    list(allowed.unwrap_or_default())
                );
                violations.push(Violation::of(
                    &package.manifest,
                    format!("{} must not depend on {name}", package.name),
                    remedy,
                ));
            }
            if (name == "wasmer" || name.starts_with("wasmer-"))
                && !WASMER_PACKAGES.contains(&package.name.as_str())
            {
                let remedy =
                    "Only etl-pool knows wasmer: use etl_pool's Pool, Template and Shelves.";
                violations.push(Violation::of(
                    &package.manifest,
                    format!("{} names {name}", package.name),
                    remedy,
                ));
            }
        }
    }
    violations
}

/// What the package may depend on; None where nobody has said, and everything for the crate of cross-crate tests.
fn allowed(package: &Package) -> Option<&'static [&'static str]> {
    const EVERYTHING: &[&str] = &[
        "etl-abi",
        "etl-filter",
        "etl-config",
        "etl-pool",
        "etl-orchestrator",
        "etl-broker-adapter",
        "etl-sdk",
        "etl-sdk-macros",
        "etl-admin",
    ];
    // An example of a host sees what the author of a broker sees.
    if !package.is_cdylib && package.manifest.starts_with("docs/examples/") {
        return Some(&["etl-broker-adapter", "etl-config", "etl-orchestrator"]);
    }
    // A guest sees what a module author sees.
    if guests::HOMES
        .iter()
        .any(|home| package.manifest.starts_with(home))
    {
        return Some(&["etl-sdk"]);
    }
    if package.name == "etl-tests" {
        return Some(EVERYTHING);
    }
    TABLE
        .iter()
        .find(|(name, _)| *name == package.name)
        .map(|(_, names)| *names)
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Reads `cargo tree --prefix none --format {p}`: one package a line, its name first.
fn filter_reach(tree: &str) -> Vec<Violation> {
    let mut found: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| NOT_IN_FILTER.contains(name))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(|name| {
            let remedy = format!("etl-filter is used alone: put what needs {name} behind its `conditions` feature, or turn off the dependency's feature that brings it. `cargo tree -p etl-filter -i {name}` says which.");
            Violation::of("crates/etl-filter/Cargo.toml", format!("etl-filter reaches {name} with default features"), remedy)
        })
        .collect()
}

/// What the manifests do not tell: where wasmer is named in code, and who forbids unsafe.
fn sources(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree
        .files_ending(&[".rs"])
        .filter(|file| !WASMER_PLACES.iter().any(|place| file.starts_with(place)))
    {
        let code = lexer::separate(&tree.read(file)).code;
        let mut lines: Vec<usize> = names_of_wasmer(&code);
        lines.dedup();
        for line in lines {
            let remedy = "Only crates/etl-pool/src/engine/ names wasmer: put the call there, behind the traits Engine and Instance.";
            violations.push(Violation::of(file, "names wasmer", remedy).at(line));
        }
    }
    for name in FORBID_UNSAFE {
        let file = format!("crates/{name}/src/lib.rs");
        if !lexer::separate(&tree.read(&file))
            .code
            .contains("#![forbid(unsafe_code)]")
        {
            violations.push(Violation::of(file, format!("{name} does not forbid unsafe code"), "Put `#![forbid(unsafe_code)]` after its header: it reads bytes that nobody has checked."));
        }
    }
    violations
}

/// Lines with `wasmer::…`, `use wasmer…`, `extern crate wasmer…`, or the like of a `wasmer_…` crate.
fn names_of_wasmer(code: &str) -> Vec<usize> {
    code.lines()
        .enumerate()
        .filter(|(_, line)| {
            line.match_indices("wasmer").any(|(at, word)| {
                let before = &line[..at];
                let after = line[at + word.len()..].trim_start_matches(lexer::is_word_part);
                let imports = ["use ", "crate "]
                    .iter()
                    .any(|keyword| before.trim_end_matches("::").ends_with(keyword));
                !before.ends_with(lexer::is_word_part)
                    && !before.ends_with('.')
                    && (imports || after.starts_with("::"))
            })
        })
        .map(|(index, _)| index + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::fixture::Fixture;
    use serde_json::{Value, json};

    /// A package in the form of `cargo metadata`, with (name, kind, local) dependencies.
    fn package(name: &str, folder: &str, dependencies: &[(&str, Option<&str>, bool)]) -> Value {
        let dependencies: Vec<Value> = dependencies
            .iter()
            .map(|(name, kind, local)| {
                if *local {
                    json!({"name": name, "kind": kind, "path": "/r/x"})
                } else {
                    json!({"name": name, "kind": kind})
                }
            })
            .collect();
        // What lies there is a guest, unless a test says otherwise.
        let guest = folder.starts_with("docs/examples/") && !folder.ends_with("-broker");
        let targets = if guest {
            json!([{"crate_types": ["cdylib"]}])
        } else {
            json!([])
        };
        json!({"name": name, "manifest_path": format!("/r/{folder}/Cargo.toml"), "targets": targets, "dependencies": dependencies})
    }

    fn messages(packages: &[Value]) -> Vec<String> {
        let workspace = metadata::parse(
            &json!({"workspace_root": "/r", "target_directory": "/r/target", "packages": packages}),
        )
        .expect("is metadata");
        let violations = dependencies(&workspace);
        assert!(
            violations
                .iter()
                .all(|violation| !violation.remedy.is_empty())
        );
        violations
            .into_iter()
            .map(|violation| violation.message)
            .collect()
    }

    #[test]
    fn the_table_is_kept() {
        assert_eq!(
            messages(&[package(
                "etl-pool",
                "crates/etl-pool",
                &[
                    ("etl-abi", None, true),
                    ("wasmer", None, false),
                    ("etl-sdk", Some("dev"), true)
                ]
            )]),
            [""; 0]
        );
        let planted = package(
            "etl-filter",
            "crates/etl-filter",
            &[("etl-config", None, true), ("etl-abi", Some("build"), true)],
        );
        assert_eq!(
            messages(&[planted]),
            [
                "etl-filter must not depend on etl-config",
                "etl-filter must not depend on etl-abi"
            ]
        );
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert_eq!(
            messages(&[package("etl-extra", "crates/etl-extra", &[])]),
            ["etl-extra is not on the map of layers"]
        );
    }

    #[test]
    fn guests_see_the_sdk_alone() {
        assert_eq!(
            messages(&[package(
                "formatter",
                "docs/examples/formatter",
                &[("etl-sdk", None, true), ("serde", None, false)]
            )]),
            [""; 0]
        );
        assert_eq!(
            messages(&[package(
                "formatter",
                "docs/examples/formatter",
                &[("etl-abi", None, true)]
            )]),
            ["formatter must not depend on etl-abi"]
        );
        let dependencies = [("etl-broker-adapter", None, true), ("etl-sdk", None, true)];
        assert_eq!(
            messages(&[package("a-broker", "docs/examples/a-broker", &dependencies)]),
            ["a-broker must not depend on etl-sdk"]
        );
    }

    #[test]
    fn nothing_depends_on_the_program() {
        let planted = [
            package("etl-tests", "tests", &[("etl-cli", Some("dev"), true)]),
            package("etl-admin", "crates/etl-admin", &[("etl-cli", None, true)]),
        ];
        assert_eq!(
            messages(&planted),
            [
                "etl-tests depends on etl-cli",
                "etl-admin depends on etl-cli"
            ]
        );
    }

    #[test]
    fn wasmer_in_another_manifest_is_found() {
        assert_eq!(
            messages(&[package(
                "etl-orchestrator",
                "crates/etl-orchestrator",
                &[("wasmer", Some("dev"), false)]
            )]),
            ["etl-orchestrator names wasmer"]
        );
        assert_eq!(
            messages(&[package(
                "etl-cli",
                "crates/etl-cli",
                &[("wasmer-types", None, false)]
            )]),
            ["etl-cli names wasmer-types"]
        );
    }

    #[test]
    fn serde_or_tokio_under_the_filter_is_found() {
        assert_eq!(
            filter_reach("etl-filter v0.1.0 (/r)\nfst v0.4.7\nmemchr v2.8.0 (*)\n"),
            []
        );
        let found = filter_reach(
            "etl-filter v0.1.0 (/r)\nserde v1.0.229\ntokio v1.54.0\nserde v1.0.229 (*)\nserde_derive_internals v1.0.0\n",
        );
        assert_eq!(
            found
                .iter()
                .map(|violation| violation.message.as_str())
                .collect::<Vec<_>>(),
            [
                "etl-filter reaches serde with default features",
                "etl-filter reaches tokio with default features"
            ]
        );
    }

    /// Plants a file beside two well-behaved crates and returns what the check says.
    fn plant(name: &str, path: &str, text: &str) -> Vec<String> {
        let fixture = Fixture::new(name);
        for name in FORBID_UNSAFE {
            fixture.write(
                &format!("crates/{name}/src/lib.rs"),
                "//! A crate.\n#![forbid(unsafe_code)]\n",
            );
        }
        fixture.write(path, text);
        sources(&fixture.tree())
            .into_iter()
            .map(|violation| violation.to_string())
            .collect()
    }

    #[test]
    fn wasmer_outside_the_engine_is_found() {
        let text = "//! About wasmer::Store.\nuse wasmer::{Store};\nuse ::wasmer;\nfn f(s: &wasmer_types::X) -> &str { \"wasmer::Y\" }\nlet m = module.wasmer::<u8>();\n";
        let found = plant("wasmer", "crates/etl-pool/src/shelves.rs", text);
        let lines: Vec<&str> = found
            .iter()
            .filter_map(|violation| violation.lines().next())
            .collect();
        assert_eq!(
            lines,
            [
                "crates/etl-pool/src/shelves.rs:2: names wasmer",
                "crates/etl-pool/src/shelves.rs:3: names wasmer",
                "crates/etl-pool/src/shelves.rs:4: names wasmer"
            ]
        );
        assert_eq!(
            plant("wasmer-engine", "crates/etl-pool/src/engine/store.rs", text),
            [""; 0]
        );
    }

    #[test]
    fn a_crate_that_does_not_forbid_unsafe_is_found() {
        let found = plant(
            "forbid",
            "crates/etl-abi/src/lib.rs",
            "//! Says #![forbid(unsafe_code)] only here.\n",
        );
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("crates/etl-abi/src/lib.rs: etl-abi does not forbid unsafe code")
        );
    }

    /// A typing error in the table would forbid what it means to allow.
    #[test]
    fn the_table_names_only_known_crates() {
        for (_, names) in TABLE {
            for name in *names {
                assert!(
                    TABLE.iter().any(|(row, _)| row == name),
                    "{name} has no row of its own"
                );
            }
        }
    }
}
