//! No core dumps from a process that holds secrets: they would be in them in clear.

use std::sync::Once;

use nix::sys::resource::{Resource, setrlimit};

/// Lets this process leave no core dump, and others of the same user not look into its memory. Once is enough.
pub fn forbid() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(target_os = "linux")]
        if let Err(error) = nix::sys::prctl::set_dumpable(false) {
            tracing::warn!(%error, "the process can be looked into");
        }
        if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
            tracing::warn!(%error, "the process may leave a core dump");
        }
    });
}
