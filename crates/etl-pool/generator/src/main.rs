//! Writes modules that nobody wrote, and what an interpreter makes of calls to them, to standard output.
//!
//! wasm-smith makes a module of random bytes, `wrap` makes it one that a pool takes, and `reference` calls it on wasmi. What comes out is for a
//! test of `etl-pool`, which calls the same module in the same way and compares. A seed gives the same module on every machine.
//!
//! For each seed, all numbers little endian: the seed (64 bits), the length of the module (32 bits), the module; then how many
//! functions it lets be called (one byte, at most [`MOST_FUNCTIONS`](wrap::MOST_FUNCTIONS)), and for each call of the plan (every function in turn,
//! [`ROUNDS`] times) two outcomes: on an instance that is kept, and on a fresh one. An outcome is a byte, `=` with the 16 bytes of the answer, `!` for a
//! failure of the guest, or `?` where the interpreter gave up first, so that anything may come out.

#![forbid(unsafe_code)]

mod generate;
mod reference;
mod wrap;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use reference::Outcome;

/// How often each function of a module is called.
const ROUNDS: usize = 2;

const HELP: &str =
    "Write generated modules, and what an interpreter makes of them, to standard output

Usage: etl-pool-generator [--seed N] [--modules N]

      --seed N     the first seed [default: 1]
      --modules N  how many seeds; without it, until nobody reads any more
      --module N   write the module of this seed alone, without anything around it";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let (mut seed, mut modules) = (1, u64::MAX);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--help" {
            println!("{HELP}");
            return Ok(());
        }
        let number = arguments
            .next()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| format!("{argument} takes a number; see --help"))?;
        match argument.as_str() {
            "--seed" => seed = number,
            "--modules" => modules = number,
            "--module" => {
                let module = wrap::wrap(&generate::module(number), number)?;
                return finish(io::stdout().write_all(&module.bytes));
            }
            _ => return Err(format!("there is no option {argument}; see --help")),
        }
    }
    let mut output = BufWriter::new(io::stdout().lock());
    for _ in 0..modules {
        let module = wrap::wrap(&generate::module(seed), seed)?;
        let outcomes = reference::outcomes(&module, ROUNDS)?;
        if let Err(error) = write(&mut output, seed, &module, &outcomes) {
            return finish(Err(error));
        }
        seed += 1;
    }
    finish(output.flush())
}

/// A reader that goes away has read enough.
fn finish(written: io::Result<()>) -> Result<(), String> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write: {error}"))
        }
        _ => Ok(()),
    }
}

fn write(
    output: &mut impl Write,
    seed: u64,
    module: &wrap::Wrapped,
    outcomes: &[[Outcome; 2]],
) -> io::Result<()> {
    output.write_all(&seed.to_le_bytes())?;
    output.write_all(&(module.bytes.len() as u32).to_le_bytes())?;
    output.write_all(&module.bytes)?;
    output.write_all(&[module.functions])?;
    for outcome in outcomes.iter().flatten() {
        match outcome {
            Outcome::Answer(answer) => {
                output.write_all(b"=")?;
                output.write_all(answer)?;
            }
            Outcome::Failure => output.write_all(b"!")?,
            Outcome::Unknown => output.write_all(b"?")?,
        }
    }
    Ok(())
}
