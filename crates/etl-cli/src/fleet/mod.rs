//! Fleets: `etl push` gives all workers a configuration, `etl fleet` shows what they made of it, and a worker follows (`member`).

mod member;
mod push;
mod show;

pub use member::Member;
pub use push::{PushOptions, push};
pub use show::{FleetOptions, show};

use std::path::Path;

use etl_broker_adapter::nats::NatsUrl;
use tokio::runtime::Runtime;

use crate::exit::Exit;

/// The fleet that a configuration's place names, if it is one and not a file.
pub fn of(config: &Path) -> Option<Result<NatsUrl, Exit>> {
    let text = config.to_str()?;
    let is_url = text.starts_with("nats://") || text.starts_with("tls://");
    is_url.then(|| NatsUrl::parse(text).map_err(Exit::from))
}

/// For a command that asks the server something and ends.
fn runtime() -> Result<Runtime, Exit> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::failed(format_args!("cannot start threads: {error}")))
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

fn host() -> String {
    let named = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = named
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty());
    named
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| "localhost".to_owned())
}
