//! Where the example modules are: in the folder that `ETL_GUESTS` names, or built here, once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A folder with `<module_id>.wasm` of every example module.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        if let Some(named) = std::env::var_os("ETL_GUESTS") {
            return named.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the tests have a folder above");
        // Also where they are there: they may be older than their sources, and then they are built in no time.
        let built = Command::new(env!("CARGO"))
            .args(["xtask", "guests"])
            .current_dir(root)
            .status()
            .expect("cargo can be started");
        assert!(built.success(), "`cargo xtask guests` failed: {built}");
        root.join("target/guests")
    })
}
