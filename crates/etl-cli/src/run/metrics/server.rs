//! The HTTP side: three paths, one request a connection.
//!
//! Enough of HTTP/1.1 for a collector of metrics and for probes, and no more: the first line says what is wanted, headers are read and
//! not looked at, and the connection is closed after the answer. Whoever is slow, or says more than a request needs, is cut off; where
//! all connections are taken, the oldest one makes room, so that nobody can keep a collector or a probe out by holding them.
//!
//! Adding up and writing out happens on threads for such work, one answer at a time: the runtime's own carry records.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use etl_orchestrator::Orchestrator;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{Recorder, Watched};
use crate::run::summary::reasons;

/// For a request to come and its answer to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// A request with its headers may have so many bytes.
const LONGEST_REQUEST: usize = 16 << 10;
/// Connections at once; one more, and the oldest is cut off.
const CONNECTIONS: usize = 64;

const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// A server that listens already.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    site: Arc<Site>,
}

struct Site {
    recorder: Recorder,
    orchestrator: Arc<Orchestrator>,
    watched: Watched,
    /// Held while an answer is made.
    desk: Arc<Mutex<()>>,
}

struct Answer {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Server {
    /// Takes the address.
    pub async fn bind(
        address: SocketAddr,
        recorder: Recorder,
        orchestrator: Arc<Orchestrator>,
        watched: Watched,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            site: Arc::new(Site {
                recorder,
                orchestrator,
                watched,
                desk: Arc::default(),
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    pub async fn run(self) {
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    open.retain(|connection| !connection.is_finished());
                    if open.len() >= CONNECTIONS
                        && let Some(oldest) = open.pop_front()
                    {
                        oldest.abort();
                    }
                    let serving = self.site.clone().serve(stream);
                    let connection = tokio::spawn(async move {
                        if let Err(error) = timeout(PATIENCE, serving).await.unwrap_or_else(late) {
                            tracing::debug!(%error, "a connection for metrics ended");
                        }
                    });
                    open.push_back(connection.abort_handle());
                }
                Err(error) => {
                    // Too many open files, mostly: it passes.
                    tracing::warn!(%error, "cannot take a connection for metrics");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn late(_: tokio::time::error::Elapsed) -> std::io::Result<()> {
    Err(std::io::ErrorKind::TimedOut.into())
}

impl Site {
    async fn serve(self: Arc<Self>, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(request) = read(&mut stream).await? else {
            return Ok(());
        };
        let mut words = request.split(' ');
        let (method, target) = (words.next(), words.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        let answer = match method {
            Some("GET" | "HEAD") => self.clone().answer_apart(path.to_owned()).await?,
            _ => Answer {
                status: "405 Method Not Allowed",
                kind: TEXT,
                body: "only GET\n".to_owned(),
            },
        };
        let head = format!(
            "HTTP/1.1 {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nallow: GET, HEAD\r\nconnection: close\r\n\r\n",
            answer.status,
            answer.kind,
            answer.body.len()
        );
        let body = if method == Some("HEAD") {
            ""
        } else {
            &answer.body
        };
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.shutdown().await
    }

    /// Makes an answer away from the threads of the runtime.
    async fn answer_apart(self: Arc<Self>, path: String) -> std::io::Result<Answer> {
        let desk = self.desk.clone().lock_owned().await;
        let answer = tokio::task::spawn_blocking(move || {
            // Here, because whoever asked may be cut off while it is made.
            let _desk = desk;
            self.answer(&path)
        });
        answer.await.map_err(std::io::Error::other)
    }

    fn answer(&self, path: &str) -> Answer {
        let (status, kind, body) = match path {
            "/metrics" => {
                self.watched.publish();
                let figures = super::render(&self.recorder, &self.orchestrator);
                ("200 OK", PROMETHEUS, figures)
            }
            "/healthz" => ("200 OK", TEXT, "ok\n".to_owned()),
            "/readyz" => return self.readiness(),
            _ => (
                "404 Not Found",
                TEXT,
                "there are /metrics, /healthz and /readyz\n".to_owned(),
            ),
        };
        Answer { status, kind, body }
    }

    fn readiness(&self) -> Answer {
        let health = self.orchestrator.health();
        let open = self.orchestrator.is_open();
        let body = serde_json::json!({
            "ready": open,
            "state": health.state(),
            "reasons": reasons(&health),
            "waiting": self.watched.waiting(),
            "generation": self.orchestrator.generation(),
        });
        Answer {
            status: if open {
                "200 OK"
            } else {
                "503 Service Unavailable"
            },
            kind: JSON,
            body: format!("{body}\n"),
        }
    }
}

/// The first line of a request, once its headers are complete; `None` where none came.
async fn read(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut chunk).await?;
        bytes.extend_from_slice(&chunk[..count]);
        if count == 0 || bytes.len() > LONGEST_REQUEST {
            return Ok(None);
        }
    }
    let line = bytes
        .split(|byte| *byte == b'\r')
        .next()
        .unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(line).into_owned()))
}
