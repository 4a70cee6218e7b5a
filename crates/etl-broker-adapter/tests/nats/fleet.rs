//! Fleets: what is pushed is there for every worker, once and whole.

use std::path::Path;

use etl_broker_adapter::AdapterErrorKind;
use etl_broker_adapter::nats::fleet::{Bundle, Fleet, WorkerReport, sha256};
use etl_config::LoadOptions;

use crate::desk::url;
use crate::nats_server::NatsServer;

/// A configuration with one module.
fn bundle(folder: &Path, pipeline: &str, module: &[u8]) -> Bundle {
    let text = format!(
        "[[modules]]\nid = \"m\"\npath = \"m.wasm\"\n[[pipelines]]\npipeline_id = \"{pipeline}\"\n\
         [[pipelines.stages]]\npriority = 0\nmodules = [{{ module_id = \"m\" }}]\n"
    );
    let config = folder.join("etl.toml");
    std::fs::write(&config, text).expect("written");
    std::fs::write(folder.join("m.wasm"), module).expect("written");
    let loaded = etl_config::load(&config, &LoadOptions::isolated()).expect("it can be used");
    Bundle::read(&config, &loaded).expect("it can be read")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_there() {
    let Some(server) = NatsServer::start("fleets over NATS") else {
        return;
    };
    let (desk, worker) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let at = url(&server.url("crew"));
    let error = Fleet::open(&at, false).await.err().expect("there is none");
    assert_eq!(error.kind(), AdapterErrorKind::NotFound);
    assert!(error.to_string().contains("--create"), "{error}");

    let fleet = Fleet::open(&at, true).await.expect("it is made");
    assert_eq!(fleet.current().await.expect("known"), None);
    let first = bundle(desk.path(), "one", b"module one");
    let pushed = fleet.push(&first).await.expect("pushed");
    assert_eq!((pushed.is_new, pushed.uploaded), (true, 1));
    let again = fleet.push(&first).await.expect("there");
    assert_eq!(
        (again.revision, again.is_new, again.uploaded),
        (pushed.revision, false, 0)
    );

    // A worker has it, module included.
    let member = Fleet::open(&at, false).await.expect("it is there");
    let (revision, got) = member.current().await.expect("known").expect("there");
    assert_eq!(revision, pushed.revision);
    member
        .download(&got, worker.path())
        .await
        .expect("downloaded");
    let file = worker
        .path()
        .join(format!("{}.wasm", sha256(b"module one")));
    assert_eq!(std::fs::read(file).expect("it is there"), b"module one");

    // Another module alone is another revision, and comes to whoever watches.
    let mut watched = member.watch().await.expect("watched");
    assert_eq!(watched.next().await, Some(revision));
    let second = bundle(desk.path(), "one", b"module two");
    let pushed = fleet.push(&second).await.expect("pushed");
    assert_eq!((pushed.is_new, pushed.uploaded), (true, 1));
    assert!(pushed.revision > revision);
    assert_eq!(watched.next().await, Some(pushed.revision));
    // And the configuration alone uploads nothing.
    let third = bundle(desk.path(), "two", b"module two");
    let pushed = fleet.push(&third).await.expect("pushed");
    assert_eq!((pushed.is_new, pushed.uploaded), (true, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_pushes_at_once_none_is_lost_unseen() {
    let Some(server) = NatsServer::start("pushes to a fleet over NATS") else {
        return;
    };
    let desk = tempfile::tempdir().expect("a folder");
    let at = url(&server.url("crew"));
    let fleet = Fleet::open(&at, true).await.expect("it is made");
    let mut pushes = Vec::new();
    for number in 0..6 {
        let bundle = bundle(desk.path(), &format!("p{number}"), b"module");
        let fleet = Fleet::open(&at, false).await.expect("it is there");
        pushes.push(tokio::spawn(async move { fleet.push(&bundle).await }));
    }
    let mut revisions = Vec::new();
    for push in pushes {
        match push.await.expect("it ends") {
            Ok(pushed) => revisions.push(pushed.revision),
            Err(error) => assert_eq!(error.kind(), AdapterErrorKind::InUse, "{error}"),
        }
    }
    let count = revisions.len();
    assert!(count > 0);
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), count, "two pushes have one revision");
    let (revision, _) = fleet.current().await.expect("known").expect("there");
    assert_eq!(revisions.last(), Some(&revision));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_come_and_go() {
    let Some(server) = NatsServer::start("workers of a fleet over NATS") else {
        return;
    };
    let fleet = Fleet::open(&url(&server.url("crew")), true)
        .await
        .expect("it is made");
    assert_eq!(fleet.workers().await.expect("listed"), []);
    let report = |name: &str| WorkerReport {
        worker: WorkerReport::name(name),
        lag: Some(7),
        ..WorkerReport::default()
    };
    fleet.report(&report("host.b/2")).await.expect("told");
    fleet.report(&report("host.a/1")).await.expect("told");
    let names = |workers: &[WorkerReport]| {
        workers
            .iter()
            .map(|worker| worker.worker.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&fleet.workers().await.expect("listed")),
        ["host-a-1", "host-b-2"]
    );
    fleet.leave("host-a-1").await.expect("told");
    assert_eq!(names(&fleet.workers().await.expect("listed")), ["host-b-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_server_has_no_fleets_and_says_so() {
    let Some(server) = NatsServer::old("fleets over an old NATS") else {
        return;
    };
    let error = Fleet::open(&url(&server.url("crew")), true)
        .await
        .err()
        .expect("refused");
    assert_eq!(error.kind(), AdapterErrorKind::Unsupported);
    assert!(
        error
            .to_string()
            .contains("need nats-server 2.10 or later, and this one is 2.9"),
        "{error}"
    );
}

/// A worker that took that for good would stay with what it has until somebody pushes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_cannot_be_had_just_now_is_no_module_that_is_missing() {
    let Some(mut server) = NatsServer::start("a NATS server that goes with a fleet's modules")
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let fleet = Fleet::open(&url(&server.url("crew")), true).await;
    let fleet = fleet.expect("it is made");
    let there = bundle(folder.path(), "one", b"module one");
    fleet.push(&there).await.expect("pushed");
    let absent = bundle(folder.path(), "one", b"another one");
    let to = folder.path().join("modules");
    let error = fleet.download(&absent, &to).await.expect_err("not there");
    assert_eq!(error.kind(), AdapterErrorKind::NotFound, "{error}");
    assert!(!error.is_retryable());
    server.kill();
    let error = fleet.download(&there, &to).await.expect_err("away");
    assert!(error.is_retryable(), "{error}");
}
