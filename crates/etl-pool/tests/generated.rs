//! Modules that nobody wrote: each is loaded and called, the host lives, and what comes out is what an interpreter makes of the same calls.
//!
//! `crates/etl-pool/generator` makes them, and runs them in wasmi first: a package of its own, because what it asks of libraries would have the compiler of
//! modules built once more. Its `main.rs` says what it writes. `cargo xtask test` builds it; `cargo xtask fuzz --only modules` does the same here for longer.

mod common;

use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use common::{in_ms, load, record};
use etl_abi::Verdict;
use etl_pool::{
    FailureKind, InstanceOptions, Isolation, MemoryLayout, Module, Pool, PoolOptions, Template,
};

#[path = "../../etl-filter/tests/support/effort.rs"]
mod effort;

/// Modules in the ordinary tests.
const MODULES: u64 = 1_000;

/// Bytes of memory that an instance may have, as in the generator.
const MEMORY: u64 = 16 << 16;

/// How often each function is called, as in the generator.
const ROUNDS: usize = 2;

const PROGRAM: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/generator/debug/etl-pool-generator"
);

/// What came of a call.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Answer([u8; 16]),
    Failure,
    Unknown,
}

/// A module, and what an interpreter made of it: for each call of the plan on an instance that is kept, and on a fresh one.
struct Case {
    bytes: Vec<u8>,
    functions: usize,
    outcomes: Vec<[Outcome; 2]>,
}

/// The program that makes modules. Dropped, it ends, because nobody reads it any more.
struct Generator {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Generator {
    fn start(seed: u64) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["--seed", &seed.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the generator starts");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, output }
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        match self.output.read_exact(&mut bytes) {
            Ok(()) => bytes,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                panic!("the generator has ended: {:?}", self.child.wait())
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn outcome(&mut self) -> Outcome {
        match self.bytes::<1>() {
            [b'='] => Outcome::Answer(self.bytes()),
            [b'!'] => Outcome::Failure,
            [b'?'] => Outcome::Unknown,
            other => panic!("no outcome is written as {other:?}"),
        }
    }

    fn next(&mut self, seed: u64) -> Case {
        assert_eq!(u64::from_le_bytes(self.bytes()), seed);
        let length = u32::from_le_bytes(self.bytes());
        let mut bytes = vec![0; length as usize];
        self.output.read_exact(&mut bytes).expect("a whole module");
        let [functions] = self.bytes();
        let calls = ROUNDS * usize::from(functions);
        Case {
            bytes,
            functions: functions.into(),
            outcomes: (0..calls)
                .map(|_| [self.outcome(), self.outcome()])
                .collect(),
        }
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How it went, over all modules: a comparison of nothing must not pass.
#[derive(Debug, Default)]
struct Tally {
    answers: u64,
    failures: u64,
    unknown: u64,
}

fn template(module: &Arc<Module>, isolation: Isolation) -> Arc<Template> {
    let options = InstanceOptions {
        memory_limit_bytes: MEMORY,
        isolation,
        ..InstanceOptions::default()
    };
    Template::new(Arc::clone(module), options).expect("the options are valid")
}

/// Calls every function of the plan, and compares.
fn compare(
    pool: &Arc<Pool>,
    case: &Case,
    isolation: Isolation,
    which: usize,
    seed: u64,
    tally: &mut Tally,
) {
    let module = load(pool, &case.bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let template = template(&module, isolation);
    let mut shelves = pool.shelves();
    for (call, outcomes) in case.outcomes.iter().enumerate() {
        let value = [(call % case.functions) as u8];
        let expected = &outcomes[which];
        // Where the interpreter gave up, the guest may run for ever. Where it did not, time is no matter.
        let time = if *expected == Outcome::Unknown {
            2
        } else {
            60_000
        };
        let deadline = in_ms(time);
        let (outcome, said) = match shelves.call(&template, &[record(&value)], deadline) {
            Ok(verdicts) => match verdicts.get(0) {
                Ok(Verdict::SetValue(answer)) => {
                    let answer = answer.try_into().expect("an answer has 16 bytes");
                    (Outcome::Answer(answer), String::new())
                }
                Ok(other) => panic!("seed {seed}: {other:?}"),
                Err(error) => (failure(error.kind(), time), error.to_string()),
            },
            Err(error) => (failure(error.kind(), time), error.to_string()),
        };
        match expected {
            Outcome::Unknown => tally.unknown += 1,
            expected => {
                assert_eq!(
                    outcome, *expected,
                    "seed {seed}, call {call}, {isolation:?}: {said}"
                );
                match outcome {
                    Outcome::Answer(_) => tally.answers += 1,
                    _ => tally.failures += 1,
                }
            }
        }
    }
}

/// A failure that is the guest's own; a timeout only where it may run for ever.
fn failure(kind: FailureKind, time: u64) -> Outcome {
    let own = matches!(kind, FailureKind::Trap | FailureKind::MemoryLimit)
        || (kind == FailureKind::Timeout && time < 60_000);
    assert!(own, "{kind}");
    Outcome::Failure
}

#[test]
fn generated_modules_do_what_an_interpreter_says() {
    if !Path::new(PROGRAM).exists() {
        println!(
            "skipped: modules that are generated: `cargo xtask test` builds the program that makes them"
        );
        return;
    }
    let options = |layout| PoolOptions {
        memory_layout: Some(layout),
        unused_module_bytes: 0,
        ..PoolOptions::default()
    };
    let [reserved, compact] = [MemoryLayout::Reserved, MemoryLayout::Compact]
        .map(|layout| Pool::new(options(layout)).expect("the options are valid"));
    let mut generator: Option<Generator> = None;
    let (mut tally, mut modules) = (Tally::default(), 0);
    effort::run(MODULES, |seed| {
        let case = generator
            .get_or_insert_with(|| Generator::start(seed))
            .next(seed);
        // Every way of compiling meets every way of keeping apart, over two seeds.
        let (kept, fresh) = if seed.is_multiple_of(2) {
            (&reserved, &compact)
        } else {
            (&compact, &reserved)
        };
        compare(kept, &case, Isolation::Instance, 0, seed, &mut tally);
        compare(fresh, &case, Isolation::Record, 1, seed, &mut tally);
        modules += 1;
        1
    });
    println!("{modules} modules: {tally:?}");
    for pool in [reserved, compact] {
        assert_eq!((pool.instances(), pool.memory_bytes()), (0, 0));
    }
    assert!(
        modules < 100 || (tally.answers > modules && tally.failures > modules / 100),
        "{tally:?}"
    );
}
