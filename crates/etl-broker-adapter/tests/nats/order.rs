//! Between a tail and its server: what the server says of a consumer may overtake what it gave out before.

use std::time::Duration;

use etl_broker_adapter::nats::NatsBroker;
use etl_broker_adapter::testing::pull_rest_now;
use etl_broker_adapter::{Broker, From};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::desk::{self, LONG, numbered};
use crate::nats_server::NatsServer;

/// The address of one who passes on what both sides say, but keeps records back until he has passed on what the server says of the consumer.
async fn overtaking(server: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it has one").to_string();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.expect("it listens");
            let (mut from_client, to_client) = client.into_split();
            let (from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            tokio::spawn(pass_on(BufReader::new(from_server), to_client));
        }
    });
    address
}

async fn pass_on(
    mut from: BufReader<tokio::net::tcp::OwnedReadHalf>,
    mut to: tokio::net::tcp::OwnedWriteHalf,
) -> std::io::Result<()> {
    let mut kept = Vec::new();
    let mut is_overtaken = false;
    loop {
        let mut frame = Vec::new();
        if from.read_until(b'\n', &mut frame).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&frame).trim().to_owned();
        let words: Vec<&str> = line.split(' ').collect();
        if let ["MSG" | "HMSG", .., length] = words[..] {
            let length: usize = length.parse().expect("a number of bytes");
            let header = frame.len();
            frame.resize(header + length + 2, 0);
            from.read_exact(&mut frame[header..]).await?;
        }
        let text = String::from_utf8_lossy(&frame);
        if !is_overtaken && text.contains("$JS.ACK.") {
            kept.extend(frame);
            continue;
        }
        let overtakes = !kept.is_empty() && text.contains("api.v1.consumer_info_response");
        to.write_all(&frame).await?;
        if overtakes {
            tokio::time::sleep(Duration::from_millis(200)).await;
            to.write_all(&kept).await?;
            kept.clear();
            is_overtaken = true;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_does_not_end_before_what_was_sent_has_come() {
    let Some(server) = NatsServer::start("a tail of NATS whose records are late") else {
        return;
    };
    desk::write(&server.url("LATE?subject=orders.>"), numbered(0..10)).await;
    let address = overtaking(server.address()).await;
    let url = desk::url(&format!("nats://{address}/LATE"));
    let broker = NatsBroker::open(url, false).await.expect("opens");
    let tail = broker.tail(&[], From::Beginning, false).await;
    let mut tail = tail.expect("opens");
    let rest = tokio::time::timeout(LONG, pull_rest_now(&mut *tail));
    assert_eq!(rest.await.expect("it ends").len(), 10);
}
