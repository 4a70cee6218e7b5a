//! `--metrics ADDR`: every metric, health and readiness, by HTTP.
//!
//! Figures are added up when somebody asks for them and at no other time.

mod process;
mod recorder;
mod run;
mod server;

use std::net::SocketAddr;
use std::sync::Arc;

use etl_orchestrator::{Metric, Orchestrator};

use crate::exit::Exit;
use crate::output::tell;
pub use process::figures as process_figures;
pub use recorder::Recorder;
pub use run::Watched;
use server::Server;

/// Makes a recorder the process's own. It has to be there before the engine starts.
pub fn install() -> Result<Recorder, Exit> {
    let recorder = Recorder::default();
    ::metrics::set_global_recorder(recorder.clone())
        .map_err(|error| Exit::failed(format_args!("cannot collect metrics: {error}")))?;
    Metric::describe_all();
    Ok(recorder)
}

/// Listens and serves until the runtime ends; says where. On a tokio runtime.
pub async fn serve(
    address: SocketAddr,
    recorder: Recorder,
    orchestrator: Arc<Orchestrator>,
    watched: Watched,
    json: bool,
) -> Result<(), Exit> {
    let server = Server::bind(address, recorder, orchestrator, watched)
        .await
        .map_err(|error| {
            Exit::failed(format_args!("cannot serve metrics at {address}: {error}"))
        })?;
    let address = server.address();
    if json {
        tell!("{}", serde_json::json!({ "metrics": address.to_string() }));
    } else {
        tell!("etl: metrics at http://{address}/metrics");
    }
    tokio::spawn(server.run());
    Ok(())
}

/// Every metric as it is now, in the text format of Prometheus.
pub fn render(recorder: &Recorder, orchestrator: &Orchestrator) -> String {
    orchestrator.publish_metrics();
    process::publish();
    recorder.render()
}
