//! How far the source is behind, asked now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::counters::Counters;
use crate::{Lag, Source};

/// How often the source is asked.
const LAG_EVERY: Duration = Duration::from_secs(5);

/// Asks the source now and then how far it is behind, one question at a time.
pub(super) struct LagProbe {
    counters: Arc<Counters>,
    /// When it is asked again.
    pub(super) next: Instant,
    asking: Option<JoinHandle<()>>,
}

impl LagProbe {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            next: Instant::now(),
            asking: None,
        }
    }

    pub(super) fn ask(&mut self, source: &dyn Source) {
        let now = Instant::now();
        if now < self.next || self.asking.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.next = now + LAG_EVERY;
        let (lag, counters) = (source.lag(), self.counters.clone());
        self.asking = Some(tokio::spawn(async move {
            match lag.await {
                Ok(lag) => counters.set_lag(lag.map(|lag: Lag| Arc::new(lag))),
                Err(error) => tracing::debug!(%error, "the lag is not known"),
            }
        }));
    }
}

impl Drop for LagProbe {
    fn drop(&mut self) {
        if let Some(task) = &self.asking {
            task.abort();
        }
    }
}
