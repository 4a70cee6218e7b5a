//! The broker over real sockets, with a real module on its produce path.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use embedded_broker::{engine, server};
use tokio::net::TcpListener;

/// Answers every value with its bytes turned around in place of the first two, so that a change shows; fails on values of one byte.
const SWAP: &str = r#"(module
  (memory (export "memory") 4)
  (func (export "allocate") (param i32) (result i32) (i32.const 65536))
  (func (export "transform") (param $at i32) (param $length i32) (result i32)
    (if (i32.eq (local.get $length) (i32.const 1)) (then (return (i32.const -1))))
    (i32.store (i32.const 1024) (local.get $length))
    (memory.copy (i32.const 1028) (local.get $at) (local.get $length))
    (i32.store8 (i32.const 1028) (i32.load8_u (i32.add (local.get $at) (i32.const 1))))
    (i32.store8 (i32.const 1029) (i32.load8_u (local.get $at)))
    (i32.const 1024)))"#;

const CONFIGURATION: &str = r#"
pipeline_id = "swap"
error_handling = "SendToDeadLetter"
[[stages]]
priority = 0
[[stages.modules]]
module_id = "swap"
topic_filters = [{ filter_type = "Prefix", pattern = "orders." }]
"#;

fn start(path: server::ProducePath) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let listener = runtime
        .block_on(TcpListener::bind("127.0.0.1:0"))
        .expect("listens");
    let address = listener.local_addr().expect("an address");
    runtime.spawn(server::serve(listener, path));
    (runtime, address)
}

/// Sends, and reads so many messages.
fn talk(address: SocketAddr, said: &str, count: usize) -> Vec<String> {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("is set");
    stream.write_all(said.as_bytes()).expect("writes");
    let mut stream = BufReader::new(stream);
    let message = |_| {
        let mut line = String::new();
        stream.read_line(&mut line).expect("reads");
        let length: u64 = line
            .trim_end()
            .rsplit(' ')
            .next()
            .expect("a length")
            .parse()
            .expect("a number");
        let mut value = String::new();
        (&mut stream)
            .take(length)
            .read_to_string(&mut value)
            .expect("reads");
        format!("{} {value}", line.split(' ').nth(1).expect("a topic"))
    };
    (0..count).map(message).collect()
}

const SAID: &str = "SUB orders.new\nSUB orders.new.dlq\nSUB other\nPUB orders.new 3\nabcPUB other 3\nabcPUB orders.new 1\nxPUB orders.new 2\nok";

#[test]
fn without_the_engine_everything_is_delivered_as_it_is() {
    let (runtime, address) = start(server::plain());
    let got = talk(address, SAID, 4);
    assert_eq!(
        got,
        [
            "orders.new abc",
            "other abc",
            "orders.new x",
            "orders.new ok"
        ]
    );
    runtime.shutdown_background();
}

#[test]
fn with_it_modules_change_what_they_ask_for_and_failures_go_to_their_topic() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    std::fs::create_dir(folder.path().join("modules")).expect("a folder");
    let module = wat::parse_str(SWAP).expect("well-formed");
    std::fs::write(folder.path().join("modules/swap.wasm"), module).expect("writes");
    let config = folder.path().join("swap.toml");
    std::fs::write(&config, CONFIGURATION).expect("writes");
    let loaded = engine::load(config.to_str().expect("UTF-8")).expect("loads");
    let (runtime, address) = start(engine::intercepted(loaded).expect("starts"));
    let got = talk(address, SAID, 4);
    assert_eq!(
        got,
        [
            "orders.new bac",
            "other abc",
            "orders.new.dlq x",
            "orders.new ko"
        ]
    );
    runtime.shutdown_background();
}
