//! A client of the API: one connection a poll, HTTP/1.1, with or without TLS.
//!
//! The token is read once and sent to the address that was asked for and to no other: redirections are not followed.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::arguments::{ApiOptions, ApiUrl};

/// A poll that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than this is not an answer of the API's.
const MOST_BYTES: usize = 64 << 20;

/// Why there are no figures.
#[derive(Debug)]
pub enum Failed {
    /// It may be otherwise in a moment.
    Away(String),
    /// It will not be: the token is wrong, or this is no API.
    ForGood(String),
}

impl Failed {
    /// What to say.
    pub fn message(&self) -> &str {
        match self {
            Self::Away(message) | Self::ForGood(message) => message,
        }
    }
}

/// Asks one API.
pub struct Client {
    url: ApiUrl,
    token: Option<Zeroizing<String>>,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    /// Reads the token and the certificates. What is wrong with them is an error.
    pub fn new(options: &ApiOptions) -> Result<Self, String> {
        let token = match &options.token_file {
            Some(file) => {
                let text = fs::read_to_string(file).map_err(at(file))?;
                Some(Zeroizing::new(text))
            }
            None => std::env::var("ETL_TOKEN").ok().map(Zeroizing::new),
        };
        let token = token.map(|text| Zeroizing::new(text.trim().to_owned()));
        if token.as_ref().is_none_or(|token| token.is_empty()) && options.cert.is_none() {
            return Err(
                "no token is given: put one into a file (`etl admin token create --role viewer --name top > token`) and name it by --token-file, or set ETL_TOKEN"
                    .to_owned(),
            );
        }
        let tls = match (options.url.is_tls, &options.ca) {
            (false, _) => None,
            (true, None) => {
                return Err(
                    "https needs --ca FILE, the certificate of the authority that issued the API's"
                        .to_owned(),
                );
            }
            (true, Some(ca)) => Some(Arc::new(configuration(ca, options)?)),
        };
        Ok(Self {
            url: options.url.clone(),
            token: token.filter(|token| !token.is_empty()),
            tls,
        })
    }

    /// The answers to these requests, on one connection.
    pub async fn get(&self, paths: &[&str]) -> Result<Vec<Value>, Failed> {
        let polled = tokio::time::timeout(PATIENCE, self.get_all(paths)).await;
        polled.unwrap_or_else(|_| {
            let seconds = PATIENCE.as_secs();
            Err(Failed::Away(format!(
                "{} does not answer within {seconds} s",
                self.url
            )))
        })
    }

    async fn get_all(&self, paths: &[&str]) -> Result<Vec<Value>, Failed> {
        let away = |error: &dyn std::fmt::Display| Failed::Away(format!("{}: {error}", self.url));
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port))
            .await
            .map_err(|error| away(&error))?;
        let mut sender = match &self.tls {
            None => shake(stream).await.map_err(|error| away(&error))?,
            Some(config) => {
                let name = ServerName::try_from(self.url.host.clone());
                let name = name.map_err(|error| Failed::ForGood(error.to_string()))?;
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(name, stream).await;
                let stream = stream.map_err(|error| away(&error))?;
                shake(stream).await.map_err(|error| away(&error))?
            }
        };
        let mut answers = Vec::with_capacity(paths.len());
        for path in paths {
            answers.push(self.ask(&mut sender, path).await?);
        }
        Ok(answers)
    }

    async fn ask(
        &self,
        sender: &mut SendRequest<Empty<Bytes>>,
        path: &str,
    ) -> Result<Value, Failed> {
        let away = |error: &dyn std::fmt::Display| Failed::Away(format!("{}: {error}", self.url));
        let mut request = Request::get(path).header(HOST, self.url.authority());
        if let Some(token) = &self.token {
            let value = Zeroizing::new(format!("Bearer {}", **token));
            request = request.header(AUTHORIZATION, value.as_str());
        }
        let request = request.body(Empty::new()).map_err(|_| {
            Failed::ForGood("the token cannot be sent: it is not text on one line".to_owned())
        })?;
        // The connection may still be at the answer before.
        sender.ready().await.map_err(|error| away(&error))?;
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| away(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await;
        let body = body.map_err(|error| away(&error))?.to_bytes();
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, value) {
            (StatusCode::OK, Some(value)) => Ok(value),
            (StatusCode::OK, None) => Err(self.not_the_api()),
            (status, Some(problem)) if problem["detail"].is_string() => {
                let detail = problem["detail"].as_str().unwrap_or_default();
                let message = format!("{}{path}: {detail}", self.url);
                let may_pass = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                Err(if may_pass {
                    Failed::Away(message)
                } else {
                    Failed::ForGood(message)
                })
            }
            _ => Err(self.not_the_api()),
        }
    }

    fn not_the_api(&self) -> Failed {
        let url = &self.url;
        Failed::ForGood(format!(
            "{url} does not answer as the API of `etl run --admin` does"
        ))
    }
}

/// Begins to speak HTTP on a connection, which is driven beside.
async fn shake<S>(stream: S) -> hyper::Result<SendRequest<Empty<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What goes wrong with it is told by the request.
    tokio::spawn(connection);
    Ok(sender)
}

fn configuration(ca: &Path, options: &ApiOptions) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(at(ca))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(at(key))?;
            builder
                .with_client_auth_cert(certificates(cert)?, private)
                .map_err(at(cert))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(at(path))?
        .collect();
    let certificates = certificates.map_err(at(path))?;
    if certificates.is_empty() {
        return Err(format!("{}: no certificate in it", path.display()));
    }
    Ok(certificates)
}

fn at<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> String {
    move |error| format!("{}: {error}", path.display())
}
