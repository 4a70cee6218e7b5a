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
    let token = token.map_or(String::new(), |token| {
        format!("authorization: Bearer {token}\r\n")
    });
    let request = format!("GET /api/v1/session HTTP/1.1\r\nhost: t\r\n{token}\r\n");
    stream.write_all(request.as_bytes())?;
    // What the server thinks of a certificate is known only once something comes back.
    let mut first = [0; 1];
    stream.read_exact(&mut first)?;
    Ok(read_answer(&mut first.as_slice().chain(stream)).expect("an answer"))
}

#[test]
fn by_tls_with_a_token_or_a_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, others) = (Authority::new(), Authority::new());
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ours.pem"), &ours.1).expect("written");
    for name in ["server", "carla", "stranger"] {
        ours.issue(folder.path(), name);
    }
    others.issue(folder.path(), "impostor");
    let server = Server::with(|options| {
        options.tls = Some(TlsFiles {
            certificate: path("server.pem"),
            key: path("server.key"),
            client_authorities: Some(path("ours.pem")),
        });
    });
    let token = server.token(Role::Viewer, "vera");
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
