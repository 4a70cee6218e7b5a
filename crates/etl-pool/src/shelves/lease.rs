//! An instance in use, and the two ways of calling it.

use std::time::Instant;

use bytes::Bytes;
use etl_abi::response::ResponseReader;
use etl_abi::{RecordFields, Verdict, request};

use super::{HAND_OVER_EVERY, Shelf, Slot};
use crate::engine::{Engine, Instance};
use crate::error::{CallError, FailureKind};
use crate::facts::Abi;
use crate::template::{Isolation, Template};
use crate::verdicts::{Answer, Frame};

/// An instance in use. Dropped, it goes back to its shelf, or away if its guest has failed.
pub(super) struct Lease<'a, E: Engine> {
    pub(super) shelf: &'a mut Shelf<E>,
    pub(super) template: &'a Template<E>,
    pub(super) slot: Option<Box<Slot<E>>>,
}

impl<E: Engine> Lease<'_, E> {
    pub(super) fn served(&self) -> u64 {
        self.slot.as_ref().map_or(0, |slot| slot.served)
    }

    /// Serves these records. A failure leaves the instance unfit, so it is not put back.
    #[inline]
    pub(super) fn serve<R: RecordFields>(
        &mut self,
        records: &[R],
        deadline: Instant,
    ) -> Result<Answer, CallError> {
        let Some(slot) = &mut self.slot else {
            return Err(CallError::new(
                FailureKind::PoolExhausted,
                "the instance is gone",
            ));
        };
        let weight = self.shelf.sampling.next();
        let started = (weight > 0).then(Instant::now);
        let outcome = match self.template.module.compiled.abi {
            Abi::V1 => process(&mut slot.instance, records, deadline),
            Abi::Legacy => transform(&mut slot.instance, records, deadline),
        };
        if let Some(started) = started {
            let took = started.elapsed();
            self.template.counts.execution.add(took, weight);
        }
        match outcome {
            Ok(answer) => {
                slot.served += 1;
                let counts = &mut self.shelf.counts;
                counts.calls += 1;
                counts.records += records.len() as u64;
                if counts.calls >= HAND_OVER_EVERY {
                    self.template.counts.hand_over(counts);
                }
                Ok(answer)
            }
            Err(error) => {
                self.template.counts.failed(error.kind());
                // The count stays readable through the lease; the instance does not go back.
                slot.failed = true;
                Err(error)
            }
        }
    }
}

impl<E: Engine> Drop for Lease<'_, E> {
    #[inline]
    fn drop(&mut self) {
        let Some(mut slot) = self.slot.take() else {
            return;
        };
        let reusable = !slot.failed
            && !self.template.is_awaited()
            && (self.template.options.isolation == Isolation::Instance || slot.instance.reset());
        if reusable {
            slot.idle_since = None;
            self.shelf.idle.push(slot);
        }
    }
}

/// ABI v1: the frame is written where the guest wants it, the reply is checked where it stands, and its bytes are copied out once.
#[inline]
fn process<I: Instance, R: RecordFields>(
    instance: &mut I,
    records: &[R],
    deadline: Instant,
) -> Result<Answer, CallError> {
    let unfit = |error: etl_abi::EncodeError| {
        CallError::new(
            FailureKind::InvalidOutput,
            format!("the records do not fit into a frame: {error}"),
        )
    };
    let length = request::encoded_len(records).map_err(unfit)?;
    let mut written = Ok(0);
    let reply = instance.process(
        length,
        |frame| written = request::encode(records, frame),
        deadline,
    );
    written.map_err(unfit)?;
    match reply? {
        None => Ok(Answer::Keep),
        Some(reply) => match ResponseReader::parse(reply, records.len()) {
            Ok(reader) => Ok(match reader.verdict(0) {
                // A record alone with nothing but a new value: that value is all there is to keep.
                Verdict::SetValue(value) if records.len() == 1 => {
                    Answer::Value(Bytes::copy_from_slice(value))
                }
                _ => Answer::Frame(Frame::checked(Bytes::copy_from_slice(reply), records.len())),
            }),
            Err(error) => Err(CallError::new(
                FailureKind::InvalidOutput,
                format!("the module's reply is malformed: {error}"),
            )),
        },
    }
}

/// Legacy ABI: one value in, one value out.
fn transform<I: Instance, R: RecordFields>(
    instance: &mut I,
    records: &[R],
    deadline: Instant,
) -> Result<Answer, CallError> {
    let [record] = records else {
        return Err(CallError::new(
            FailureKind::InvalidOutput,
            "a legacy module takes one record at a time",
        ));
    };
    let value = instance.transform(record.value(), Bytes::copy_from_slice, deadline)?;
    Ok(Answer::Value(value))
}
