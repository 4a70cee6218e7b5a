//! What the brokers said about messages that were written, as the producer's thread reports it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tokio::sync::Notify;

use super::client::log;

/// A message is known by its number since the last confirmation, and above that by which confirmation that was.
pub(super) const INDEX_BITS: u32 = 32;

/// What the brokers said about messages since the last confirmation.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<Delivered>,
    /// All came, or some.
    pub(super) came: Notify,
}

#[derive(Default)]
pub(super) struct Delivered {
    /// Reports of earlier ones say nothing any more.
    pub(super) epoch: u32,
    pub(super) sent: usize,
    pub(super) done: usize,
    pub(super) failed: Vec<(usize, Code)>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, Delivered> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes reports of the producer.
pub(super) struct Reports {
    pub(super) shared: Arc<Shared>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (epoch, index) = (opaque >> INDEX_BITS, opaque & ((1 << INDEX_BITS) - 1));
        let mut state = self.shared.state();
        if state.epoch as usize != epoch {
            return;
        }
        state.done += 1;
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
            state.failed.push((index, code));
        }
        let all = state.done == state.sent;
        drop(state);
        // Those who wait, wait for all, or for some room.
        if all || index % 64 == 0 {
            self.shared.came.notify_one();
        }
    }
}
