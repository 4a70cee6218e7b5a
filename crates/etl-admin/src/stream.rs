//! A connection's bytes, with the patience that hyper leaves to whoever gives it a connection.
//!
//! hyper bounds the reading of headers. Here is bounded how long a client may take to read an answer; and after the last answer a little
//! of what the client still sends is read and thrown away, because closing on somebody who is writing takes the answer away from them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::places::Place;

/// How long, and how much of the rest, is thrown away.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

pub(crate) struct Stream<S> {
    inner: S,
    place: Arc<Place>,
    patience: Duration,
    /// Runs while the client does not take what it was sent.
    stalled: Option<Pin<Box<Sleep>>>,
    lingering: Option<Lingering>,
}

struct Lingering {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl<S> Stream<S> {
    pub(crate) fn new(inner: S, place: Arc<Place>, patience: Duration) -> Self {
        Self {
            inner,
            place,
            patience,
            stalled: None,
            lingering: None,
        }
    }

    /// What a write that has to wait is told.
    fn stall<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let patience = self.patience;
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(context, bytes) {
            Poll::Pending => self.stall(context),
            written => written,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_flush(context) {
            Poll::Pending => self.stall(context),
            Poll::Ready(Ok(())) => {
                // hyper flushes when it has nothing more to write.
                self.stalled = None;
                self.place.flushed();
                Poll::Ready(Ok(()))
            }
            failed => failed,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let lingering = match &mut this.lingering {
            Some(lingering) => lingering,
            None => {
                match Pin::new(&mut this.inner).poll_shutdown(context) {
                    Poll::Pending => return this.stall(context),
                    Poll::Ready(result) => result?,
                }
                this.lingering.insert(Lingering {
                    until: Box::pin(sleep(LINGER)),
                    left: LINGER_BYTES,
                })
            }
        };
        let mut thrown_away = [0; 4096];
        while lingering.left > 0 && lingering.until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            let read = Pin::new(&mut this.inner).poll_read(context, &mut buffer);
            let count = buffer.filled().len();
            match ready!(read) {
                Ok(()) if count > 0 => lingering.left = lingering.left.saturating_sub(count),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write_vectored(context, slices) {
            Poll::Pending => self.stall(context),
            written => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
