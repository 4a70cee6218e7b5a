//! What is wrong is said, with what to do about it.

use etl_broker_adapter::nats::{NatsSink, NatsSource};
use etl_broker_adapter::{AdapterError, AdapterErrorKind, Sink, Source};
use etl_orchestrator::Record;

use crate::desk::{self, url};
use crate::nats_server::NatsServer;

async fn refused(text: &str, create: bool) -> AdapterError {
    match NatsSource::open(url(text), create).await {
        Ok(_) => panic!("{text} was opened"),
        Err(error) => error,
    }
}

#[track_caller]
fn says(error: &AdapterError, kind: AdapterErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "no {part:?} in: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers() {
    let error = refused("nats://127.0.0.1:9/S", false).await;
    says(
        &error,
        AdapterErrorKind::Unavailable,
        &["cannot connect to nats://127.0.0.1:9/S", "refused"],
    );
    assert!(error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials() {
    let configuration = "authorization { users = [ { user: me, password: secret } ] }";
    let Some(server) = NatsServer::with("credentials of NATS", configuration) else {
        return;
    };
    let at = |login: &str| format!("nats://{login}{}/S?prefix=s", server.address());
    for login in ["", "me:wrong@", "token@"] {
        let error = refused(&at(login), true).await;
        says(
            &error,
            AdapterErrorKind::Unauthorized,
            &["refuses these credentials"],
        );
        assert!(!error.to_string().contains("wrong"), "{error}");
        assert!(!error.is_retryable());
    }
    desk::source(&at("me:secret@")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_a_key() {
    let Some(server) = NatsServer::with("tokens of NATS", "authorization { token: t0k3n }") else {
        return;
    };
    let address = server.address();
    desk::source(&format!("nats://t0k3n@{address}/S?prefix=s")).await;
    desk::source(&format!("nats://{address}/S?prefix=s&token=t0k3n")).await;
    drop(server);
    let key = nkeys::KeyPair::new_user();
    let configuration = format!(
        "authorization {{ users = [ {{ nkey: {} }} ] }}",
        key.public_key()
    );
    let Some(server) = NatsServer::with("keys of NATS", &configuration) else {
        return;
    };
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), key.seed().expect("a seed")).expect("written");
    let path = file.path().display();
    desk::source(&server.url(&format!("S?prefix=s&nkey={path}"))).await;
    let error = refused(&server.url("S?prefix=s&nkey=/no/such/file"), true).await;
    says(
        &error,
        AdapterErrorKind::NotFound,
        &["cannot read an nkey from /no/such/file"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_missing() {
    let Some(server) = NatsServer::start("missing streams of NATS") else {
        return;
    };
    let error = refused(&server.url("NONE"), false).await;
    says(
        &error,
        AdapterErrorKind::NotFound,
        &["no stream `NONE`", "--create"],
    );
    let error = refused(&server.url("NONE"), true).await;
    says(
        &error,
        AdapterErrorKind::InvalidUrl,
        &["must know its subjects", "?subject="],
    );
    let error = refused(&server.url("?subject=a.>"), false).await;
    says(
        &error,
        AdapterErrorKind::NotFound,
        &["no stream holds `a.>`"],
    );
    let error = refused(&server.url(""), false).await;
    says(&error, AdapterErrorKind::InvalidUrl, &["names no stream"]);
    let sink = NatsSink::open(url(&server.url("NONE")), "test", false).await;
    says(
        &sink.err().expect("refused"),
        AdapterErrorKind::NotFound,
        &["--create"],
    );
    desk::source(&server.url("ONE?subject=one.>")).await;
    let error = refused(&server.url("TWO?subject=one.x"), true).await;
    says(
        &error,
        AdapterErrorKind::Io,
        &["the stream `TWO` cannot be made", "overlap"],
    );
}

/// A URL without a stream writes to whichever holds a record's subject. One that none holds is refused alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_no_stream_holds() {
    let Some(server) = NatsServer::start("a subject in no NATS stream") else {
        return;
    };
    let all = server.url("ORDERS?subject=orders.>");
    desk::source(&all).await;
    let mut sink = desk::sink_as_is(&server.url("")).await;
    let strange = Record::new("nowhere", "?");
    let mut records: Vec<Record> = desk::numbered(0..4).collect();
    records.insert(2, strange);
    sink.write(desk::outputs(0, records))
        .await
        .expect("written");
    let refused = sink.confirm().await.expect("the others are there");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].index, 2);
    let reason = &refused[0].reason;
    assert!(
        reason.contains("no stream holds the subject `nowhere`"),
        "{reason}"
    );
    desk::all_once(&desk::contents(&all, 4).await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream() {
    let Some(server) = NatsServer::with("NATS without JetStream", "# no jetstream") else {
        return;
    };
    let error = refused(&server.url("S"), false).await;
    says(&error, AdapterErrorKind::Unavailable, &["without -js"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_for_another_purpose() {
    let Some(server) = NatsServer::start("consumers of NATS") else {
        return;
    };
    desk::source(&server.url("S?subject=s.>&consumer=c")).await;
    let error = refused(&server.url("S?subject=s.one&consumer=c"), false).await;
    says(
        &error,
        AdapterErrorKind::Unsupported,
        &["the consumer `c` reads `s.>`, not `s.one`", "?consumer="],
    );
}

/// Acknowledgements could not be told from those of another stream.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_are_too_large() {
    let Some(server) = NatsServer::start("large sequences of NATS") else {
        return;
    };
    let client = async_nats::connect(server.address()).await;
    let jetstream = async_nats::jetstream::new(client.expect("a connection"));
    for (name, first_sequence) in [("LAST", (1 << 48) - 1), ("OVER", 1 << 48)] {
        let config = async_nats::jetstream::stream::Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            first_sequence: Some(first_sequence),
            ..Default::default()
        };
        jetstream.create_stream(config).await.expect("is made");
    }
    let mut last = desk::source(&server.url("LAST")).await;
    desk::write(&server.url("LAST?prefix=LAST"), [Record::new("a", "1")]).await;
    let items = desk::pull(&mut last, 1).await;
    last.ack(&[items[0].token]).await.expect("noted");
    last.close().await.expect("confirmed");
    drop(last);
    for name in ["LAST", "OVER"] {
        let error = refused(&server.url(name), false).await;
        says(
            &error,
            AdapterErrorKind::Unsupported,
            &[&format!("`{name}`"), "281474976710656"],
        );
    }
}
