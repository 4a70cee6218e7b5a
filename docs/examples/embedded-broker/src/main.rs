//! `embedded-broker ADDRESS [CONFIG]`: the broker, with the engine on its produce path where a configuration is given.
//!
//! `embedded-broker --measure MESSAGES CONFIG` sends so many messages through real sockets, without the engine and with it, in turn, and prints the
//! processor time that each took. The time includes publishing and subscribing, which happen in the same process.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use embedded_broker::{engine, server};
use server::ProducePath;
use tokio::net::TcpListener;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["--measure", messages, config] => measure(messages.parse()?, config),
        [address] => serve(address, server::plain()),
        [address, config] => serve(address, engine::intercepted(engine::load(config)?)?),
        _ => Err("usage: embedded-broker ADDRESS [CONFIG] | --measure MESSAGES CONFIG".into()),
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

/// Rounds of each, taken in turn so that what else the machine does meets both.
const ROUNDS: usize = 5;

fn measure(messages: usize, config: &str) -> Result<(), Box<dyn Error>> {
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(one(messages, server::plain())?);
        with.push(one(messages, engine::intercepted(engine::load(config)?)?)?);
    }
    let (without, with) = (median(without), median(with));
    println!(
        "{messages} messages, median of {ROUNDS}: {without:.0} ns of processor time a message without, {with:.0} ns with: {:+.1} %",
        (with / without - 1.0) * 100.0
    );
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Publishes and receives; answers nanoseconds of processor time a message.
fn one(messages: usize, path: ProducePath) -> Result<f64, Box<dyn Error>> {
    let runtime = tokio::runtime::Runtime::new()?;
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    runtime.spawn(server::serve(listener, path));
    let mut subscriber = TcpStream::connect(address)?;
    subscriber.write_all(b"SUB orders.new\n")?;
    // Its own message coming back says that the subscription is in force.
    subscriber.write_all(b"PUB orders.new 5\nready")?;
    let mut received = BufReader::new(subscriber);
    receive(&mut received)?;
    let begun = (Instant::now(), processor_seconds()?);
    let publisher = std::thread::spawn(move || -> std::io::Result<()> {
        let mut out = BufWriter::new(TcpStream::connect(address)?);
        let value = [b'x'; 256];
        for _ in 0..messages {
            out.write_all(b"PUB orders.new 256\n")?;
            out.write_all(&value)?;
        }
        out.flush()
    });
    for _ in 0..messages {
        receive(&mut received)?;
    }
    publisher.join().map_err(|_| "the publisher broke")??;
    let used = processor_seconds()? - begun.1;
    eprintln!(
        "{:.2} s, {used:.2} s of processor time",
        begun.0.elapsed().as_secs_f64()
    );
    runtime.shutdown_background();
    Ok(used * 1e9 / messages as f64)
}

fn receive(from: &mut impl BufRead) -> Result<(), Box<dyn Error>> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let length: usize = line
        .trim_end()
        .rsplit(' ')
        .next()
        .unwrap_or_default()
        .parse()?;
    std::io::copy(&mut from.take(length as u64), &mut std::io::sink())?;
    Ok(())
}

/// User and system time of this process, from `/proc`.
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').ok_or("no /proc/self/stat")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Result<Vec<f64>, _> = ticks.map(str::parse).collect();
    Ok(ticks?.iter().sum::<f64>() / 100.0)
}
