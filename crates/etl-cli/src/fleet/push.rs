//! `etl push`: checks a configuration as a run would, and gives it to a fleet.

use clap::Args;
use etl_broker_adapter::AdapterError;
use etl_broker_adapter::nats::NatsUrl;
use etl_broker_adapter::nats::fleet::{Bundle, Fleet};
use etl_orchestrator::Orchestrator;
use serde_json::json;

use crate::arguments::ConfigurationOptions;
use crate::configuration;
use crate::exit::Exit;
use crate::output::{self, counted};

const HELP: &str = "\
Everything is built first, as `etl validate` does; what cannot be used here is not pushed. Then
the modules that the fleet does not have are uploaded, and the configuration last; workers swap to
it by themselves, and `etl fleet --wait` tells when all have. Variables (${VAR}) stay as they are
written: each worker fills in its own.

Exit codes:
  0 pushed, or there already   1 the fleet cannot be reached or refused   2 wrong arguments
  78 wrong configuration

Examples:
  etl push etl.toml --to nats://broker:4222/orders --create
      The first time: makes the fleet `orders`.
  etl push etl.toml --to nats://broker:4222/orders
  etl fleet --of nats://broker:4222/orders --wait
  etl run nats://broker:4222/orders --from nats://broker:4222/IN --to nats://broker:4222/OUT
      A worker of the fleet.";

/// Give a configuration, with its modules, to all workers of a fleet
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct PushOptions {
    #[command(flatten)]
    pub configuration: ConfigurationOptions,

    /// The fleet: nats://HOST:PORT/FLEET
    #[arg(long, value_name = "URL", value_parser = NatsUrl::parse)]
    pub to: NatsUrl,

    /// Make the fleet if there is none
    #[arg(long)]
    pub create: bool,

    /// Print what was done, and problems of the configuration, as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn push(options: &PushOptions) -> Result<(), Exit> {
    let refuse = |report| configuration::refuse(&report, options.json);
    let loaded = configuration::load(&options.configuration).map_err(refuse)?;
    let warnings = Orchestrator::check(&loaded).map_err(refuse)?;
    if !options.json {
        configuration::warn(&warnings);
    }
    let mut bundle = Bundle::read(&options.configuration.config, &loaded)?;
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    bundle.pushed_by = format!("{user}@{}", super::host());
    bundle.pushed_at = super::now_ms();
    let pushed = super::runtime()?.block_on(async {
        let fleet = Fleet::open(&options.to, options.create).await?;
        fleet.push(&bundle).await
    });
    let pushed = pushed.map_err(|error: AdapterError| Exit::from(error))?;
    if options.json {
        return output::print_json(&json!({
            "revision": pushed.revision,
            "new": pushed.is_new,
            "modules": bundle.modules(),
            "uploaded": pushed.uploaded,
        }));
    }
    let modules = counted(bundle.modules() as u64, "module");
    output::print(&if pushed.is_new {
        format!(
            "revision {}: {modules}, {} uploaded\n",
            pushed.revision, pushed.uploaded
        )
    } else {
        format!(
            "revision {}: it is there already, nothing has changed\n",
            pushed.revision
        )
    })
}
