//! What a plan calls: one module with one configuration.
//!
//! The pool's instances are behind it in a running engine; tests and simulations use closures.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::delta::Delta;
use crate::failure::TransformError;
use crate::instances::Instances;
use crate::lane::LaneContext;
use crate::view::View;

/// What a module answers for one record.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The record goes on as it is.
    Keep,
    /// The record ends here.
    Drop,
    /// The record goes on with this value. The commonest change, so it needs no list.
    Value(Bytes),
    /// The record goes on with these changes.
    Change(Delta),
    /// The module failed for this record, and nothing that it did to it counts.
    Fail(TransformError),
}

/// One module with one configuration, as a plan calls it.
///
/// Open for implementation. A closure from a record to a [`Reply`] is one:
///
/// ```
/// use etl_orchestrator::{Reply, Transform, View};
///
/// let upper = |record: &View| Reply::Value(record.value().to_ascii_uppercase().into());
/// fn is_transform(_: impl Transform) {}
/// is_transform(upper);
/// ```
pub trait Transform: Send + Sync {
    /// Handles a batch: pushes one reply for each record, in order, or none at all, which keeps every record.
    ///
    /// `replies` comes in empty. Nothing may be carried over from one record to another, a failed record costs the others nothing,
    /// and the call returns soon after `deadline`; a record that was not finished by then has failed with `Timeout`. In a batch of
    /// more than one that is not the last word: such records are called again, each alone and with a deadline of its own.
    fn call(
        &self,
        lane: &mut LaneContext,
        records: &[&View],
        deadline: Instant,
        replies: &mut Vec<Reply>,
    );

    /// Makes instances ready on this lane, so that the first record does not wait for them.
    fn warm(&self, _lane: &mut LaneContext) {}

    /// Whether one call may be for records that were given in different batches. The orchestrator's own lanes join small batches that wait, which costs
    /// a call less each.
    fn joins_batches(&self) -> bool {
        true
    }

    /// The digest of the bytes that a record meets, in hexadecimal, where it is not the same for every record.
    fn sha256_for(&self, _record: &View) -> Option<Arc<str>> {
        None
    }

    /// What is known of its instances, for metrics.
    fn instances(&self) -> Vec<Instances> {
        Vec::new()
    }
}

impl<F: Fn(&View) -> Reply + Send + Sync> Transform for F {
    fn call(&self, _: &mut LaneContext, records: &[&View], _: Instant, replies: &mut Vec<Reply>) {
        replies.extend(records.iter().map(|record| self(record)));
    }
}
