//! Where a run's configuration comes from: files, or a fleet that the run belongs to as long as it lasts.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use etl_broker_adapter::Counters;
use etl_config::{Loaded, Report};
use etl_orchestrator::Orchestrator;
use tokio::runtime::Runtime;

use crate::arguments::RunOptions;
use crate::configuration;
use crate::exit::Exit;
#[cfg(feature = "nats")]
use crate::fleet::{self, Member};

/// In a fleet, or in none.
pub struct Membership {
    #[cfg(feature = "nats")]
    member: Option<Member>,
}

impl Membership {
    /// Whether the configuration is a fleet's.
    pub fn is_asked_for(options: &RunOptions) -> bool {
        #[cfg(feature = "nats")]
        return fleet::of(&options.configuration.config).is_some();
        #[cfg(not(feature = "nats"))]
        {
            let _ = options;
            false
        }
    }

    /// Loads the configuration from where the options say, and joins the fleet if that is one.
    pub fn join(runtime: &Runtime, options: &RunOptions) -> Result<(Self, Loaded), Exit> {
        #[cfg(feature = "nats")]
        if let Some(url) = fleet::of(&options.configuration.config) {
            if options.watch || options.configuration.modules.is_some() {
                return Err(Exit::failed(
                    "configuration and modules come from the fleet, and are followed: leave out --watch and --modules",
                ));
            }
            let joining = Member::join(url?, &options.configuration, options.json);
            let (member, loaded) = runtime.block_on(joining)?;
            let member = Some(member);
            return Ok((Self { member }, loaded));
        }
        let _ = runtime;
        let loaded = configuration::load(&options.configuration)
            .map_err(|report| configuration::refuse(&report, options.json))?;
        let alone = Self {
            #[cfg(feature = "nats")]
            member: None,
        };
        Ok((alone, loaded))
    }

    /// The configuration cannot be used: shows why, and tells the fleet.
    pub fn refuse(&mut self, runtime: &Runtime, report: &Report, json: bool) -> Exit {
        #[cfg(feature = "nats")]
        if let Some(member) = &mut self.member {
            return runtime.block_on(member.refuse(report));
        }
        let _ = runtime;
        configuration::refuse(report, json)
    }

    /// Follows the fleet until the run ends.
    pub async fn during<T>(
        &mut self,
        run: Pin<&mut impl Future<Output = T>>,
        orchestrator: Arc<Orchestrator>,
        counters: Arc<Counters>,
    ) -> T {
        #[cfg(feature = "nats")]
        if let Some(member) = &mut self.member {
            return tokio::select! {
                ended = run => ended,
                () = member.follow(orchestrator, counters) => std::future::pending().await,
            };
        }
        let _ = (orchestrator, counters);
        run.await
    }

    /// Ends the membership.
    pub async fn leave(self) {
        #[cfg(feature = "nats")]
        if let Some(member) = self.member {
            member.leave().await;
        }
    }
}
