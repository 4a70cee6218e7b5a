//! `embedded-broker ADDRESS [CONFIG]`: the broker, with the engine on its produce path where a configuration is given. What that costs is
//! measured by `benches/overhead.rs`.
#![forbid(unsafe_code)]

use std::error::Error;

use embedded_broker::{engine, server};
use server::ProducePath;
use tokio::net::TcpListener;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [address] => serve(address, server::plain()),
        [address, config] => serve(address, engine::intercepted(engine::load(config)?)?),
        _ => Err("usage: embedded-broker ADDRESS [CONFIG]".into()),
    }
}

fn serve(address: &str, path: ProducePath) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        println!("listening on {}", listener.local_addr()?);
        Ok(server::serve(listener, path).await?)
    })
}
