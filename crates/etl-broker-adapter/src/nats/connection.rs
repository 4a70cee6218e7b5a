//! One connection to a server, for as long as it lasts.
//!
//! The client that this is built on would connect again by itself, and go on with what had not been sent: then a record that was lost
//! with the old connection would be overtaken by those behind it. So a connection here has one life. When it ends, whoever holds it hears
//! of it at once, makes a new one, and begins again with the first thing that was not confirmed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Auth, AuthError, Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};

use super::url::{Login, NatsUrl, Tls};
use crate::{AdapterError, AdapterErrorKind};

/// How long a server may take to answer before the connection is given up.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// Requests that are not answered end a connection that nobody uses.
const PING: Duration = Duration::from_secs(5);

/// Publications on their way at once.
pub(super) const ON_THEIR_WAY: usize = 4_096;

/// A connection.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) jetstream: Context,
}

impl Connection {
    /// Connects once, to the first server that answers. `role` is what the server's own lists call it.
    pub(super) async fn open(url: &NatsUrl, role: &str) -> Result<Self, AdapterError> {
        let addresses: Vec<ServerAddr> = url
            .servers
            .iter()
            .map(|server| server.parse())
            .collect::<Result<_, _>>()
            .map_err(|error| super::url::invalid(format!("{url}: {error}")))?;
        let login = login(url)?;
        let connected = Arc::new(AtomicBool::new(false));
        let before = connected.clone();
        let sign = move |nonce: Vec<u8>| {
            let (login, before) = (login.clone(), before.clone());
            // The server asks for it in the middle of connecting; a second time would be a second life.
            std::future::ready(if before.load(Ordering::Relaxed) {
                Err(AuthError::new("the connection has ended"))
            } else {
                login.auth(&nonce).map_err(AuthError::new)
            })
        };
        let mut options = tls(ConnectOptions::with_auth_callback(sign), &tls_of(&url.tls))
            .name(format!("etl {role}"))
            .connection_timeout(TIMEOUT)
            .request_timeout(Some(TIMEOUT))
            .ping_interval(PING)
            // The server lists others of its cluster; they are for the next connection to be asked of, by name.
            .ignore_discovered_servers()
            .max_reconnects(addresses.len())
            .reconnect_delay_callback(|_| Duration::ZERO)
            .event_callback(|event| async move {
                match event {
                    Event::Connected => {}
                    event => tracing::debug!(%event, "NATS"),
                }
            });
        options = options.subscription_capacity(128 * 1024);
        let client = options
            .connect(addresses)
            .await
            .map_err(|error| refused(url, &error))?;
        connected.store(true, Ordering::Relaxed);
        let jetstream = ContextBuilder::new()
            .timeout(TIMEOUT)
            .ack_timeout(TIMEOUT)
            .build(client.clone());
        Ok(Self { client, jetstream })
    }

    /// Whether it can still be used.
    pub(super) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}

/// Who connects, read and ready.
#[derive(Clone)]
enum Ready {
    Nobody,
    Password(String, String),
    Token(String),
    Key {
        jwt: Option<String>,
        key: Arc<nkeys::KeyPair>,
    },
}

impl Ready {
    fn auth(&self, nonce: &[u8]) -> Result<Auth, String> {
        let mut auth = Auth::new();
        match self {
            Self::Nobody => {}
            Self::Password(user, password) => {
                auth.username = Some(user.clone());
                auth.password = Some(password.clone());
            }
            Self::Token(token) => auth.token = Some(token.clone()),
            Self::Key { jwt, key } => {
                if jwt.is_none() {
                    auth.nkey = Some(key.public_key());
                }
                auth.jwt = jwt.clone();
                auth.signature = Some(key.sign(nonce).map_err(|error| error.to_string())?);
            }
        }
        Ok(auth)
    }
}

/// What the URL says, or else the environment. Files are read anew for each connection, so that new credentials need no restart.
fn login(url: &NatsUrl) -> Result<Ready, AdapterError> {
    let said = match &url.login {
        Login::Unsaid => from_environment(),
        said => said.clone(),
    };
    match said {
        Login::Unsaid => Ok(Ready::Nobody),
        Login::Password(user, password) => Ok(Ready::Password(user, password)),
        Login::Token(token) => Ok(Ready::Token(token)),
        Login::Credentials(path) => {
            let text = read(&path, "credentials")?;
            let (jwt, seed) = credentials(&text).ok_or_else(|| {
                super::url::invalid(format!(
                    "{}: it has no JWT and seed between BEGIN and END lines, as a credentials file has",
                    path.display()
                ))
            })?;
            Ok(Ready::Key {
                jwt: Some(jwt),
                key: key(&path, &seed)?,
            })
        }
        Login::Nkey(path) => {
            let text = read(&path, "an nkey")?;
            let seed = text
                .lines()
                .map(str::trim)
                .find(|line| !line.is_empty() && !line.starts_with('#'));
            Ok(Ready::Key {
                jwt: None,
                key: key(&path, seed.unwrap_or_default())?,
            })
        }
    }
}

fn from_environment() -> Login {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(path) = variable("NATS_CREDS") {
        return Login::Credentials(path.into());
    }
    if let Some(path) = variable("NATS_NKEY") {
        return Login::Nkey(path.into());
    }
    if let Some(user) = variable("NATS_USER") {
        return Login::Password(user, variable("NATS_PASSWORD").unwrap_or_default());
    }
    variable("NATS_TOKEN").map_or(Login::Unsaid, Login::Token)
}

fn read(path: &Path, what: &str) -> Result<String, AdapterError> {
    std::fs::read_to_string(path).map_err(|error| {
        AdapterError::from_io(
            format_args!("cannot read {what} from {}", path.display()),
            error,
        )
    })
}

/// The text between the first two pairs of BEGIN and END lines.
fn credentials(text: &str) -> Option<(String, String)> {
    let mut parts = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("---") {
            inside = line.contains("BEGIN");
        } else if inside && !line.is_empty() {
            parts.push(line.to_owned());
        }
    }
    let mut parts = parts.into_iter();
    Some((parts.next()?, parts.next()?))
}

fn key(path: &Path, seed: &str) -> Result<Arc<nkeys::KeyPair>, AdapterError> {
    nkeys::KeyPair::from_seed(seed)
        .map(Arc::new)
        .map_err(|error| {
            // The seed itself is a secret.
            super::url::invalid(format!(
                "{}: the seed in it is not one: {error}",
                path.display()
            ))
        })
}

fn tls_of(said: &Tls) -> Tls {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let or =
        |said: &Option<PathBuf>, name| said.clone().or_else(|| variable(name).map(PathBuf::from));
    Tls {
        authority: or(&said.authority, "NATS_CA"),
        certificate: or(&said.certificate, "NATS_CERT"),
        key: or(&said.key, "NATS_KEY"),
        ..said.clone()
    }
}

fn tls(mut options: ConnectOptions, tls: &Tls) -> ConnectOptions {
    // Who names an authority means to check against it.
    options = options.require_tls(tls.required || tls.authority.is_some());
    if tls.first {
        options = options.tls_first();
    }
    if let Some(path) = &tls.authority {
        options = options.add_root_certificates(path.clone());
    }
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
}

/// Why there is no connection, and what can be done about it.
fn refused(url: &NatsUrl, error: &async_nats::ConnectError) -> AdapterError {
    let why = causes(error);
    let (kind, what) = match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => (
            AdapterErrorKind::Unauthorized,
            "the server refuses these credentials".to_owned(),
        ),
        ConnectErrorKind::TimedOut => (
            AdapterErrorKind::Unavailable,
            format!("no answer within {} s", TIMEOUT.as_secs()),
        ),
        ConnectErrorKind::Dns => (
            AdapterErrorKind::Unavailable,
            format!("the host is not known: {why}"),
        ),
        ConnectErrorKind::Tls => (AdapterErrorKind::InvalidUrl, format!("TLS failed: {why}")),
        _ if why.to_lowercase().contains("authorization") => (
            AdapterErrorKind::Unauthorized,
            format!("the server refuses these credentials: {why}"),
        ),
        _ => (AdapterErrorKind::Unavailable, why),
    };
    AdapterError::new(kind, format!("cannot connect to {url}: {what}"))
}

/// An error with those that caused it, each said once.
pub(super) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credentials_file_is_read() {
        let text = "-----BEGIN NATS USER JWT-----\nabc.def\n------END NATS USER JWT------\n\n*** IMPORTANT ***\nkeep it\n\n\
                    -----BEGIN USER NKEY SEED-----\nSUXYZ\n------END USER NKEY SEED------\n";
        assert_eq!(
            credentials(text),
            Some(("abc.def".to_owned(), "SUXYZ".to_owned()))
        );
        assert_eq!(credentials("nothing"), None);
    }
}
