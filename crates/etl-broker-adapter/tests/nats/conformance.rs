//! The suite that every adapter runs, over a current server and over the oldest that is common.

use etl_broker_adapter::nats::{NatsSink, NatsSource};
use etl_broker_adapter::testing::{Abilities, CHECKS, Place, conformance};
use etl_broker_adapter::{AdapterError, BoxFuture, Sink, Source};
use tokio::sync::Mutex;

use crate::desk::url;
use crate::nats_server::NatsServer;

/// A server with a stream for everything.
struct Server(Mutex<NatsServer>);

impl Server {
    async fn url(&self, rest: &str) -> etl_broker_adapter::nats::NatsUrl {
        url(&self
            .0
            .lock()
            .await
            .url(&format!("ALL?prefix=all&ack-wait=2s{rest}")))
    }
}

impl Place for Server {
    fn source<'a>(
        &'a self,
        topics: &'a [&'a str],
        consumer: &'a str,
    ) -> BoxFuture<'a, Result<Box<dyn Source>, AdapterError>> {
        Box::pin(async move {
            let mut rest = format!("&consumer={consumer}");
            // One subject at a time is what old servers filter by; a stream holds little else here.
            if let [topic] = topics {
                rest.push_str(&format!("&subject=all.{topic}"));
            }
            // The stream holds everything, whatever this consumer reads of it.
            NatsSink::open(self.url("").await, "make", true).await?;
            let source = NatsSource::open(self.url(&rest).await, false).await?;
            Ok(Box::new(source) as Box<dyn Source>)
        })
    }

    fn sink(&self) -> BoxFuture<'_, Result<Box<dyn Sink>, AdapterError>> {
        Box::pin(async move {
            // Each sink of a check writes records of its own under the same positions.
            static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
            let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let sink = NatsSink::open(self.url("").await, &format!("suite-{number}"), true).await?;
            Ok(Box::new(sink) as Box<dyn Sink>)
        })
    }

    fn abilities(&self) -> Abilities {
        let mut can = Abilities::all();
        // The server gives out again what was lost when it comes to it, behind what is newer.
        can.redelivers_in_order = false;
        can.partitions = false;
        can.binary_headers = false;
        can.header_order = false;
        can.max_record = Some(1024 * 1024);
        can
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Killed, a server may forget what it has confirmed a moment ago.
            let mut server = self.0.lock().await;
            server.stop();
            server.restart();
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn current_server() {
    if NatsServer::start("conformance of NATS").is_some() {
        let start = || NatsServer::start("conformance of NATS").expect("it starts");
        conformance(async || Server(Mutex::new(start()))).await;
    }
}

/// What an old server (seen on 2.9.10) does not keep to: where records are given back and nobody asks for any, the one that was delivered last
/// comes again, acknowledged or not. Nothing is lost by it.
const NOT_ON_OLD: &str = "partitions_are_acknowledged_apart";

#[tokio::test(flavor = "multi_thread")]
async fn old_server() {
    if NatsServer::old("conformance of an old NATS").is_some() {
        for check in CHECKS.iter().filter(|check| check.name != NOT_ON_OLD) {
            let server = NatsServer::old("conformance of an old NATS").expect("it starts");
            check.hold(&Server(Mutex::new(server))).await;
        }
    }
}
