//! The listener: where the API is, who may connect, and how many at once.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use etl_orchestrator::Orchestrator;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::access::{Gate, Store};
use crate::answer::Answer;
use crate::archive::Archive;
use crate::audit::AuditLog;
use crate::limits::Limits;
use crate::places::{Place, Places};
use crate::reception::{self, Peer};
use crate::site::{Host, Site};
use crate::stream::Stream;
use crate::tls::{self, TlsFiles};

/// So often it is looked whether the configuration was changed by other ways.
const NOTICE: Duration = Duration::from_secs(1);
/// At the end answers that are on their way are waited for so long.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// What hyper holds of a connection's bytes at the most, beside a head.
const BUFFER_BYTES: usize = 64 << 10;

/// Where and how the API is served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AdminOptions {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// The folder of those who may come in, and of the audit log.
    pub folder: PathBuf,
    /// TLS; without it tokens can be read on the way.
    pub tls: Option<TlsFiles>,
    /// Serves without TLS where others than this machine can connect.
    pub allow_plain: bool,
    /// What one client may use up.
    pub limits: Limits,
    /// Where generations are kept beyond the end of the process.
    pub archive: Option<Arc<Archive>>,
}

impl AdminOptions {
    /// At an address, without TLS, with the usual limits.
    #[must_use]
    pub fn new(address: SocketAddr, folder: impl Into<PathBuf>) -> Self {
        Self {
            address,
            folder: folder.into(),
            tls: None,
            allow_plain: false,
            limits: Limits::default(),
            archive: None,
        }
    }
}

/// Why the API is not served.
#[derive(Debug)]
pub struct AdminError(String);

impl std::fmt::Display for AdminError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for AdminError {}

/// The API, listening.
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    site: Arc<Site>,
    places: Arc<Places>,
    nobody: bool,
}

impl Admin {
    /// Takes the address. On a tokio runtime.
    ///
    /// # Errors
    /// The address cannot be had or is not safe, or files cannot be read.
    pub async fn bind(
        options: AdminOptions,
        orchestrator: Arc<Orchestrator>,
        host: impl Host,
    ) -> Result<Self, AdminError> {
        let AdminOptions {
            address,
            limits,
            folder,
            archive,
            ..
        } = options;
        if !address.ip().is_loopback() && options.tls.is_none() && !options.allow_plain {
            return Err(AdminError(format!(
                "others than this machine can reach {address}, and without TLS they can read tokens on the way"
            )));
        }
        let failed = |error: &dyn std::fmt::Display| AdminError(error.to_string());
        let tls = options.tls.map(|files| files.acceptor());
        let tls = tls.transpose().map_err(|error| failed(&error))?;
        let gate = Gate::new(Store::in_folder(&folder)).map_err(|error| failed(&error))?;
        let nobody = gate.is_empty();
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| failed(&format_args!("{address}: {error}")))?;
        // Last, so that the log speaks only of a process that serves.
        let audit = AuditLog::open(&folder.join("audit"), orchestrator.generation())
            .map_err(|error| failed(&error))?;
        let site = Site::new(orchestrator, Box::new(host), gate, limits, audit, archive);
        Ok(Self {
            address: listener.local_addr().map_err(|error| failed(&error))?,
            listener,
            tls,
            limits,
            site: Arc::new(site),
            places: Arc::new(Places::new(limits.connections, limits.connections_of_one)),
            nobody,
        })
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Whether there is nobody yet who could come in.
    #[must_use]
    pub fn is_closed_to_all(&self) -> bool {
        self.nobody
    }

    /// What ends it in good order: called, it waits for the change that is being made, and no other begins; then for the answers that are
    /// on their way. It blocks.
    pub fn closer(&self) -> impl FnOnce() + Send + use<> {
        let (site, places) = (self.site.clone(), self.places.clone());
        move || {
            site.close();
            let until = Instant::now() + LAST_ANSWERS;
            while places.is_answering() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Serves for ever.
    pub async fn run(self) {
        let router = reception::router(self.site.clone());
        tokio::spawn(look_around(self.site));
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let Some(place) = self.places.take(address.ip()).await else {
                        tracing::debug!(%address, "too many connections from there");
                        continue;
                    };
                    let (router, tls, limits) = (router.clone(), self.tls.clone(), self.limits);
                    tokio::spawn(async move {
                        let place = Arc::new(place);
                        tokio::select! {
                            () = connection(stream, address, place.clone(), router, tls, limits) => {}
                            () = place.left() => {
                                tracing::debug!(%address, "an idle connection made room");
                            }
                        }
                    });
                }
                Err(error) => {
                    // Too many open files, mostly: it passes.
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Notices in time what is changed by other ways than the API: by a signal, a file, a canary that failed.
async fn look_around(site: Arc<Site>) {
    loop {
        tokio::time::sleep(NOTICE).await;
        let site = site.clone();
        let _ = tokio::task::spawn_blocking(move || site.look_around()).await;
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    place: Arc<Place>,
    router: Router,
    tls: Option<TlsAcceptor>,
    limits: Limits,
) {
    let mut peer = Peer {
        address,
        certificate: None,
    };
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return serve(stream, peer, place, router, limits).await;
    };
    match timeout(limits.head_time, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates();
            peer.certificate = shown.and_then(<[_]>::first).map(tls::digest);
            serve(stream, peer, place, router, limits).await;
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, %address, "a connection did not become a secure one");
        }
        Err(_) => {
            tracing::debug!(%address, "a connection took too long to become a secure one");
        }
    }
}

/// Serves one connection until it ends or misbehaves.
async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    place: Arc<Place>,
    router: Router,
    limits: Limits,
) {
    let address = peer.address;
    let io = TokioIo::new(Stream::new(stream, place.clone(), limits.answer_time));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let answering = place.begin().then(|| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            router.call(request)
        });
        let place = place.clone();
        async move {
            let response = match answering {
                Some(answering) => answering.await?,
                None => gone(),
            };
            place.answered();
            Ok::<_, Infallible>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_headers(limits.headers)
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes.max(BUFFER_BYTES))
        // A client may say that it has said everything, and still wait for its answer.
        .half_close(true)
        .serve_connection(io, service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, %address, "a connection ended");
    }
}

/// For a request that came when its connection had been given up.
fn gone() -> Response {
    let detail = "this connection made room for others";
    let answer = Answer::problem(503, detail).header("connection", "close");
    answer.into_response()
}
