//! Builds the program that makes modules for a test of `etl-pool`.
//!
//! It is a workspace of its own (`crates/etl-pool/generator`), so that the features it asks of libraries do not have the compiler of modules built once more,
//! and builds into `target/generator`, where the test looks for it.

use std::path::Path;

use crate::process;

/// The package, from the top of the repository.
pub const FOLDER: &str = "crates/etl-pool/generator";

/// Builds it.
pub fn build(root: &Path) -> Result<(), String> {
    let mut command = process::cargo(&root.join(FOLDER));
    command
        .args(["build", "--quiet", "--locked", "--target-dir"])
        .arg(root.join("target/generator"));
    // Of the user's, flags and another folder are meant for the workspace.
    command
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET");
    process::run(&mut command)
}
