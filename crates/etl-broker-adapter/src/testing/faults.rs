//! Sinks that are slow, or away now and then, in front of real ones.

use std::time::Duration;

use crate::{AdapterError, AdapterErrorKind, BoxFuture, Outputs, Positions, Refused, Sink};

/// Waits before each confirmation.
pub struct Slow<S>(pub S, pub Duration);

impl<S: Sink> Sink for Slow<S> {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.0.write(outputs)
    }

    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(async {
            tokio::time::sleep(self.1).await;
            self.0.confirm().await
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.0.finish()
    }
}

/// Fails every so many calls, before or after the one behind it has done its work, in a way that passes: what follows works, up to a confirmation.
pub struct Flaky<S> {
    sink: S,
    every: u32,
    calls: u32,
    recovering: bool,
}

impl<S: Sink> Flaky<S> {
    /// In front of a sink.
    pub fn new(sink: S, every: u32) -> Self {
        Self {
            sink,
            every,
            calls: 0,
            recovering: false,
        }
    }

    fn fails(&mut self) -> bool {
        self.calls += 1;
        let fails = !self.recovering && self.calls >= self.every;
        if fails {
            self.calls = 0;
            self.recovering = true;
        }
        fails
    }
}

fn away() -> AdapterError {
    AdapterError::new(AdapterErrorKind::Unavailable, "the sink is away for a test")
}

impl<S: Sink> Sink for Flaky<S> {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async {
            if self.fails() {
                return Err(away());
            }
            self.sink.write(outputs).await
        })
    }

    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(async {
            let refused = self.sink.confirm().await?;
            // It is written, and nobody is told: it comes twice, and must not be missing.
            if self.fails() {
                return Err(away());
            }
            self.recovering = false;
            Ok(refused)
        })
    }

    fn confirm_with(
        &mut self,
        positions: Vec<Positions>,
    ) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(async {
            if self.fails() {
                return Err(away());
            }
            let refused = self.sink.confirm_with(positions).await?;
            self.recovering = false;
            Ok(refused)
        })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        Box::pin(async {
            self.sink.recover().await?;
            Ok(true)
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.sink.finish()
    }
}

impl Sink for Box<dyn Sink> {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        (**self).write(outputs)
    }
    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        (**self).confirm()
    }
    fn confirm_with(
        &mut self,
        positions: Vec<Positions>,
    ) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        (**self).confirm_with(positions)
    }
    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        (**self).recover()
    }
    fn finish(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        (**self).finish()
    }
}
