//! TLS, and certificates in the place of tokens.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use etl_admin::{NewEntry, Role, Scope, TlsFiles, certificate_digest};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Answer, Server, read_answer};

struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self(Issuer::new(params, key), pem)
    }

    /// Writes a certificate and its key for `name`.
    fn issue(&self, folder: &Path, name: &str) {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("written");
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("written");
    }
}

/// Asks who it is, over TLS.
fn session(
    server: &Server,
    authority: &Path,
    shown: Option<(&Path, &Path)>,
    token: Option<&str>,
) -> std::io::Result<Answer> {
    let token = token.map_or(String::new(), |token| {
        format!("authorization: Bearer {token}\r\n")
    });
    talk(
        server,
        authority,
        shown,
        &format!("GET /api/v1/session HTTP/1.1\r\nhost: t\r\n{token}\r\n"),
    )
}

/// Says this over TLS, and reads the answer.
fn talk(
    server: &Server,
    authority: &Path,
    shown: Option<(&Path, &Path)>,
    request: &str,
) -> std::io::Result<Answer> {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(authority).expect("a certificate");
    roots.add(trusted).expect("an authority");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match shown {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(key).expect("a key");
            builder
                .with_client_auth_cert(vec![certificate], key)
                .expect("a pair")
        }
    };
    let name = "localhost".try_into().expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
    let stream = TcpStream::connect(server.address).expect("it listens");
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(request.as_bytes())?;
    // What the server thinks of a certificate is known only once something comes back.
    let mut first = [0; 1];
    stream.read_exact(&mut first)?;
    Ok(read_answer(&mut first.as_slice().chain(stream)).expect("an answer"))
}

/// A server with TLS, whose files are in this folder with those of carla, an operator, and of a stranger.
fn server(folder: &Path) -> Server {
    let ours = Authority::new();
    let path = |name: &str| folder.join(name);
    std::fs::write(path("ours.pem"), &ours.1).expect("written");
    for name in ["server", "carla", "stranger"] {
        ours.issue(folder, name);
    }
    let server = Server::with(|options| {
        options.tls = Some(TlsFiles {
            certificate: path("server.pem"),
            key: path("server.key"),
            client_authorities: Some(path("ours.pem")),
        });
    });
    let carla = NewEntry {
        name: "carla".to_owned(),
        role: Role::Operator,
        scope: Scope::default(),
        expires: None,
    };
    let digest = certificate_digest(&path("carla.pem")).expect("a digest");
    server
        .store()
        .allow_certificate(digest, carla)
        .expect("allowed");
    server
}

#[test]
fn a_page_of_somebody_else_changes_nothing_by_a_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path());
    let path = |name: &str| folder.path().join(name);
    let (authority, certificate, key) = (path("ours.pem"), path("carla.pem"), path("carla.key"));
    let token = server.token(Role::Operator, "otto");
    let ask = |method: &str, target: &str, more: &str| {
        let request =
            format!("{method} /api/v1/{target} HTTP/1.1\r\nhost: etl.test:9400\r\n{more}\r\n");
        talk(&server, &authority, Some((&certificate, &key)), &request).expect("an answer")
    };
    let disable = "pipelines/orders-eu/disable";
    // As a browser says it for the page that a form or a script is on, and older ones do without the first.
    for page in [
        "sec-fetch-site: cross-site\r\norigin: https://evil.test\r\n",
        "sec-fetch-site: same-site\r\norigin: https://other.etl.test\r\n",
        "sec-fetch-site: cross-site\r\n",
        "origin: https://evil.test\r\n",
        "origin: https://etl.test\r\n",
        "origin: null\r\n",
    ] {
        let answer = ask("POST", disable, page).is(403);
        assert!(answer.text.contains("another site"), "{answer:#?}");
        // Nothing comes of looking: the page is not given the answer.
        ask("GET", "session", page).is(200);
    }
    assert_eq!(server.orchestrator.generation(), 1);
    let log = std::fs::read_to_string(server.path("admin/audit/audit.jsonl")).expect("a log");
    assert_eq!(log.matches("another site").count(), 6, "{log}");
    // Pages of its own, what was typed into the address bar, programs; and a token, which no browser shows by itself.
    for meant in [
        "sec-fetch-site: same-origin\r\norigin: https://etl.test:9400\r\n",
        "sec-fetch-site: none\r\n",
        "origin: https://etl.test:9400\r\n",
        "",
    ] {
        ask("POST", disable, meant).is(200);
    }
    let token = format!("authorization: Bearer {token}\r\nsec-fetch-site: cross-site\r\n");
    ask("POST", disable, &token).is(200);
}

#[test]
fn by_tls_with_a_token_or_a_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path());
    let path = |name: &str| folder.path().join(name);
    Authority::new().issue(folder.path(), "impostor");
    let token = server.token(Role::Viewer, "vera");
    let authority = path("ours.pem");
    let ask = |shown: Option<&str>, token: Option<&str>| {
        let files = shown.map(|name| (path(&format!("{name}.pem")), path(&format!("{name}.key"))));
        let files = files
            .as_ref()
            .map(|(certificate, key)| (&**certificate, &**key));
        session(&server, &authority, files, token)
    };
    let who = |answer: std::io::Result<Answer>| {
        answer.expect("an answer").is(200).json()["name"]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(who(ask(None, Some(&token))).as_deref(), Some("vera"));
    assert_eq!(who(ask(Some("carla"), None)).as_deref(), Some("carla"));
    // A token says more than a certificate, since it was meant.
    assert_eq!(
        who(ask(Some("carla"), Some(&token))).as_deref(),
        Some("vera")
    );
    ask(None, None).expect("an answer").is(401);
    // Issued by whom we trust, and nobody has let it in.
    ask(Some("stranger"), None).expect("an answer").is(401);
    // Issued by somebody else: there is not even an answer.
    assert!(ask(Some("impostor"), Some(&token)).is_err());
    server.store().revoke("carla").expect("revoked");
    ask(Some("carla"), None).expect("an answer").is(401);
    // And without TLS nothing can be had at all.
    assert!(
        server
            .talk(b"GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n")
            .is_none_or(|answer| answer.status != 200)
    );
}
