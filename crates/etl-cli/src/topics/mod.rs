//! `etl topics`, `etl send`, `etl tail`: looking at and filling the place that a URL names, whatever kind it is.

mod arguments;
mod list;
mod send;
mod tail;

pub use arguments::{SendOptions, TailOptions, TopicsOptions, time};
pub use list::list;
pub use send::send;
pub use tail::tail;

use std::future::Future;

use etl_broker_adapter::{AdapterUrl, Broker};

use crate::exit::Exit;

/// Runs what waits for a broker.
pub fn block_on<T>(work: impl Future<Output = Result<T, Exit>>) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Exit::failed(format_args!("cannot start threads: {error}")))?;
    let result = runtime.block_on(work);
    // A read from a terminal or a pipe cannot be interrupted, and must not keep the program.
    runtime.shutdown_background();
    result
}

/// Opens a place, or fails with what to do about it.
pub async fn connect(url: &AdapterUrl, create: bool) -> Result<std::sync::Arc<dyn Broker>, Exit> {
    Ok(url.connect(create).await?)
}
