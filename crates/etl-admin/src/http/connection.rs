//! One connection: requests in their order, each with its time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::Answer;
use super::body::{self, BodyError};
use super::head::{Body, Head};
use super::limits::Limits;

/// After an answer to a request that was not read whole: how long, and how much of the rest, is thrown away so that the answer arrives.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1 << 20;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// The SHA-256 of the certificate that it has shown, and that was issued by whom we trust.
    pub(crate) certificate: Option<[u8; 32]>,
}

/// Who answers requests. In two steps: whether it may be asked, and then what the answer is.
pub(crate) trait Handler: Send + Sync + 'static {
    /// What a request was found to be.
    type Admitted: Send;

    /// Settles who asks for what, and how many bytes of a body are wanted, before any is read.
    fn admit(
        self: &Arc<Self>,
        peer: &Peer,
        head: Head,
    ) -> impl Future<Output = Result<(Self::Admitted, usize), Answer>> + Send;

    /// Answers.
    fn answer(
        self: Arc<Self>,
        admitted: Self::Admitted,
        body: Vec<u8>,
    ) -> impl Future<Output = Answer> + Send;
}

/// Serves one connection until it ends or misbehaves.
pub(crate) async fn serve<S, H>(stream: S, peer: Peer, handler: Arc<H>, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    H: Handler,
{
    let mut connection = Connection {
        stream,
        buffer: Vec::new(),
        patience: limits.head_time,
        limits,
    };
    while let Some(read) = connection.head().await {
        let served = match read {
            Err(refused) => Served::last(refused),
            Ok(head) => connection.serve(&peer, head, &handler).await,
        };
        let Some(served) = served else { return };
        if !connection.write(&served).await {
            return;
        }
        if !served.keep {
            connection.linger().await;
            return;
        }
    }
}

struct Served {
    answer: Answer,
    keep: bool,
    /// Whether the body goes with it: not where only the head was asked for.
    with_body: bool,
}

impl Served {
    fn last(answer: Answer) -> Option<Self> {
        Some(Self {
            answer,
            keep: false,
            with_body: true,
        })
    }
}

struct Connection<S> {
    stream: S,
    buffer: Vec<u8>,
    /// For the next request to begin.
    patience: Duration,
    limits: Limits,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// The next request's head, or what to say instead; `None` where there is none.
    async fn head(&mut self) -> Option<Result<Head, Answer>> {
        if self.buffer.is_empty() {
            // The first byte begins the time of a head; waiting for it is only waiting.
            let mut first = [0; 1];
            match timeout(self.patience, self.stream.read(&mut first)).await {
                Ok(Ok(1)) => self.buffer.push(first[0]),
                _ => return None,
            }
        }
        self.patience = self.limits.idle_time;
        let until = Instant::now() + self.limits.head_time;
        loop {
            // Empty lines before a request are to be put up with.
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.drain(..2);
            }
            let end = self.buffer.windows(4).position(|end| end == b"\r\n\r\n");
            let longest = self.limits.head_bytes;
            if end.map_or(self.buffer.len(), |end| end + 4) > longest {
                let detail = format!("the headers have more than {longest} bytes");
                return Some(Err(Answer::problem(431, detail)));
            }
            if let Some(end) = end {
                let rest = self.buffer.split_off(end + 4);
                let head = std::mem::replace(&mut self.buffer, rest);
                return Some(Head::read(&head, &self.limits));
            }
            let mut chunk = [0; 4096];
            match timeout_at(until, self.stream.read(&mut chunk)).await {
                Err(_) => {
                    let seconds = self.limits.head_time.as_secs();
                    let detail = format!("the headers took longer than {seconds} s");
                    return Some(Err(Answer::problem(408, detail)));
                }
                Ok(Ok(count)) if count > 0 => self.buffer.extend_from_slice(&chunk[..count]),
                Ok(_) => return None,
            }
        }
    }

    async fn serve<H: Handler>(
        &mut self,
        peer: &Peer,
        head: Head,
        handler: &Arc<H>,
    ) -> Option<Served> {
        let (kind, keep) = (head.body, head.keep);
        let (expects, with_body) = (head.expects_continue, head.method != "HEAD");
        let (admitted, limit) = match handler.admit(peer, head).await {
            Ok(admitted) => admitted,
            // Its body, if it has one, was not read: what comes next on this connection would be that.
            Err(answer) => {
                return Some(Served {
                    answer,
                    keep: keep && kind == Body::None,
                    with_body,
                });
            }
        };
        let too_long = matches!(kind, Body::Length(length) if length > limit as u64);
        if expects && kind != Body::None && !too_long {
            let go = b"HTTP/1.1 100 Continue\r\n\r\n";
            let written = timeout(self.limits.answer_time, self.stream.write_all(go)).await;
            written.ok()?.ok()?;
        }
        let reading = body::read(&mut self.stream, &mut self.buffer, kind, limit);
        match timeout(self.limits.body_time, reading).await {
            Ok(Ok(body)) => Some(Served {
                answer: handler.clone().answer(admitted, body).await,
                keep,
                with_body,
            }),
            Ok(Err(BodyError::Refused(answer))) => Served::last(answer),
            Ok(Err(BodyError::Io)) => None,
            Err(_) => {
                let seconds = self.limits.body_time.as_secs();
                let detail = format!("the body took longer than {seconds} s");
                Served::last(Answer::problem(408, detail))
            }
        }
    }

    /// Whether it arrived, as far as one can know.
    async fn write(&mut self, served: &Served) -> bool {
        let mut bytes = served.answer.head(served.keep).into_bytes();
        if served.with_body {
            bytes.extend_from_slice(&served.answer.body);
        }
        let writing = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        matches!(timeout(self.limits.answer_time, writing).await, Ok(Ok(())))
    }

    /// Reads on for a moment, because closing on a client that is still writing takes the answer away from it.
    async fn linger(&mut self) {
        let mut left = LINGER_BYTES;
        let mut chunk = vec![0; 16 << 10];
        let rest = async {
            self.stream.shutdown().await?;
            while left > 0 {
                match self.stream.read(&mut chunk).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            std::io::Result::Ok(())
        };
        let _ = timeout(LINGER, rest).await;
    }
}
