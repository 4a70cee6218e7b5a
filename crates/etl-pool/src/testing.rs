//! For tests: an engine without WebAssembly, and the suite that every engine passes.
//!
//! [`FakeEngine`] runs scripts, not code: a module is a line of text such as `v1 echo`, and its guests do in Rust what the real ones do
//! in their own memory. The rules of the pool (who is called again, what is given up, what waits) can so be tested without a
//! compiler. [`engine_suite`] holds both engines to the same behaviour; an engine is handed in with its own modules for the same
//! [`Behaviour`]s.

use std::time::{Duration, Instant};

use etl_abi::request::RequestReader;
use etl_abi::response::ResponseWriter;
use etl_abi::{NewRecord, Verdict};

use crate::artifacts::Authentic;
use crate::caps::Caps;
use crate::engine::{Engine, Instance, Setup};
use crate::error::{CallError, FailureKind, PoolError, PoolErrorKind};
use crate::facts::{Abi, Facts};
use crate::module::ModuleSource;
use crate::pool::{Pool, PoolOptions};
use crate::template::{InstanceOptions, Isolation, Template};

/// What a module of the suite does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Keeps every record.
    Keep,
    /// Sets every value to what it is; traps on one that starts with `!`, never returns from one that starts with `?`.
    Echo,
    /// Sets every value to the number of records that the instance has seen, as one digit; traps on one that starts with `!`.
    Count,
    /// Has no memory for a frame, and says so.
    Full,
    /// Answers with bytes that are no frame.
    Garbage,
    /// Answers with a region outside its memory.
    WildPointer,
    /// Refuses its configuration, naming it.
    Refuse,
    /// Never returns from its start function.
    StuckStart,
    /// Legacy: answers the value; refuses one that starts with `!`.
    Legacy,
    /// Legacy: never frees, and traps when its room for 65,536 bytes is used up.
    LegacyLeak,
    /// Not a module of either ABI.
    Foreign,
}

/// Scripts in place of modules.
#[derive(Debug, Default)]
pub struct FakeEngine;

impl FakeEngine {
    /// The script of a behaviour.
    pub fn module(behaviour: Behaviour) -> Vec<u8> {
        format!("{behaviour:?}").into_bytes()
    }
}

/// One guest of the fake engine.
#[derive(Debug)]
pub struct FakeInstance {
    behaviour: Behaviour,
    seen: u64,
    used: usize,
    reply: Vec<u8>,
    writer: ResponseWriter,
}

const BEHAVIOURS: [Behaviour; 11] = [
    Behaviour::Keep,
    Behaviour::Echo,
    Behaviour::Count,
    Behaviour::Full,
    Behaviour::Garbage,
    Behaviour::WildPointer,
    Behaviour::Refuse,
    Behaviour::StuckStart,
    Behaviour::Legacy,
    Behaviour::LegacyLeak,
    Behaviour::Foreign,
];

fn trap(message: &str) -> CallError {
    CallError::new(FailureKind::Trap, message)
}

/// As an endless loop would: until the deadline.
fn spin(deadline: Instant) -> CallError {
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    CallError::new(
        FailureKind::Timeout,
        "the guest was stopped at its deadline",
    )
}

impl Engine for FakeEngine {
    type Code = Behaviour;
    type Instance = FakeInstance;
    type Lane = ();

    fn lane(&self) {}

    fn vet(&self, bytes: &[u8], _caps: &Caps) -> (Facts, Vec<PoolError>) {
        let behaviour = BEHAVIOURS
            .into_iter()
            .find(|&behaviour| Self::module(behaviour) == bytes);
        let abi = match behaviour {
            Some(Behaviour::Legacy | Behaviour::LegacyLeak) => Some(Abi::Legacy),
            Some(Behaviour::Foreign) | None => None,
            Some(_) => Some(Abi::V1),
        };
        let problems = match abi {
            Some(_) => Vec::new(),
            None => vec![PoolError::new(
                PoolErrorKind::Exports,
                "is no module of either ABI",
            )],
        };
        let facts = Facts {
            abi,
            memory_minimum_bytes: 1 << 16,
            ..Facts::default()
        };
        (facts, problems)
    }

    fn compile(
        &self,
        bytes: &[u8],
        _facts: &Facts,
        _caps: &Caps,
        _resettable: bool,
    ) -> Result<Behaviour, PoolError> {
        BEHAVIOURS
            .into_iter()
            .find(|&behaviour| Self::module(behaviour) == bytes)
            .ok_or_else(|| PoolError::new(PoolErrorKind::Compile, "no such script"))
    }

    fn fingerprint(&self) -> String {
        "fake".to_owned()
    }

    fn freeze(&self, _: &Behaviour) -> Option<Vec<u8>> {
        None
    }

    fn revive(&self, _: &Authentic, _: &Facts, _: bool) -> Result<Behaviour, PoolError> {
        Err(PoolError::new(
            PoolErrorKind::Compile,
            "scripts are not kept",
        ))
    }

    fn instantiate(
        &self,
        code: &Behaviour,
        setup: &Setup,
        _lane: &(),
        deadline: Instant,
    ) -> Result<FakeInstance, CallError> {
        match code {
            Behaviour::StuckStart => return Err(spin(deadline)),
            Behaviour::Refuse => {
                let config = String::from_utf8_lossy(setup.config.reveal());
                return Err(CallError::new(
                    FailureKind::Module,
                    format!("the module refused its configuration: {config}"),
                ));
            }
            _ => {}
        }
        Ok(FakeInstance {
            behaviour: *code,
            seen: 0,
            used: 0,
            reply: Vec::new(),
            writer: ResponseWriter::new(),
        })
    }
}

impl Instance for FakeInstance {
    fn process(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut [u8]),
        deadline: Instant,
    ) -> Result<Option<&[u8]>, CallError> {
        if self.behaviour == Behaviour::Full {
            return Err(CallError::new(
                FailureKind::MemoryLimit,
                "no memory for a frame",
            ));
        }
        let mut frame = vec![0; len];
        write(&mut frame);
        let malformed = |error: etl_abi::DecodeError| trap(&error.to_string());
        let reader = RequestReader::parse(&frame).map_err(malformed)?;
        self.writer.begin(reader.len());
        for record in reader.iter() {
            let record = record.map_err(malformed)?;
            let value = record.value();
            self.seen += 1;
            match self.behaviour {
                Behaviour::Garbage => {
                    self.reply = b"no frame".to_vec();
                    return Ok(Some(&self.reply));
                }
                Behaviour::WildPointer => {
                    return Err(CallError::new(
                        FailureKind::InvalidOutput,
                        "outside its memory",
                    ));
                }
                Behaviour::Echo | Behaviour::Count if value.starts_with(b"!") => {
                    return Err(trap("unreachable"));
                }
                Behaviour::Echo if value.starts_with(b"?") => return Err(spin(deadline)),
                Behaviour::Echo => self.writer.set_value(value),
                Behaviour::Count => self
                    .writer
                    .set_value((self.seen % 10).to_string().as_bytes()),
                _ => {}
            }
            self.writer.end_record();
        }
        self.writer
            .finish()
            .map_err(|error| trap(&error.to_string()))
    }

    fn transform<T>(
        &mut self,
        value: &[u8],
        read: impl FnOnce(&[u8]) -> T,
        _: Instant,
    ) -> Result<T, CallError> {
        if value.starts_with(b"!") {
            return Err(CallError::new(FailureKind::Module, "transform answered -1"));
        }
        if self.behaviour == Behaviour::LegacyLeak {
            self.used += 2 * value.len() + 4;
            if self.used > 1 << 16 {
                return Err(trap("unreachable"));
            }
        }
        Ok(read(value))
    }

    fn reset(&mut self) -> bool {
        self.seen = 0;
        self.used = 0;
        true
    }

    fn memory_bytes(&self) -> u64 {
        1 << 16
    }
}

/// Holds an engine to what the pool relies on.
///
/// `engine` makes one, `module` gives its module for a behaviour.
///
/// # Panics
/// Where the engine behaves otherwise.
pub fn engine_suite<E: Engine>(engine: impl Fn() -> E, module: impl Fn(Behaviour) -> Vec<u8>) {
    let suite = Suite { engine, module };
    suite.batches_cross();
    suite.failures_cost_their_record();
    suite.guests_are_stopped();
    suite.no_memory_is_said_to_be_that();
    suite.lies_are_invalid_output();
    suite.legacy_modules_work();
    suite.isolation_holds();
    suite.what_cannot_start_says_so();
}

struct Suite<F, M> {
    engine: F,
    module: M,
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

impl<E: Engine, F: Fn() -> E, M: Fn(Behaviour) -> Vec<u8>> Suite<F, M> {
    fn pool(&self) -> std::sync::Arc<Pool<E>> {
        let Ok(pool) = Pool::with_engine((self.engine)(), PoolOptions::default()) else {
            panic!("default options make a pool");
        };
        pool
    }

    fn template(
        &self,
        pool: &std::sync::Arc<Pool<E>>,
        behaviour: Behaviour,
        options: InstanceOptions,
    ) -> std::sync::Arc<Template<E>> {
        let source = ModuleSource {
            id: "suite",
            bytes: &(self.module)(behaviour),
            expected_sha256: None,
        };
        match pool
            .load(source)
            .and_then(|module| Template::new(module, options))
        {
            Ok(template) => template,
            Err(error) => panic!("{behaviour:?}: {error}"),
        }
    }

    /// What happens to each value, in words, on one lane, call by call.
    fn run(
        &self,
        behaviour: Behaviour,
        options: InstanceOptions,
        calls: &[&[&str]],
    ) -> Vec<Vec<String>> {
        let pool = self.pool();
        let template = self.template(&pool, behaviour, options);
        let mut shelves = pool.shelves();
        let outcome = calls.iter().map(|values| {
            let records: Vec<_> = values.iter().map(|value| record(value)).collect();
            match shelves.call(&template, &records, soon()) {
                Ok(verdicts) => (0..verdicts.len())
                    .map(|index| word(verdicts.get(index)))
                    .collect(),
                Err(error) => vec![error.kind().to_string()],
            }
        });
        let outcome = outcome.collect();
        drop(shelves);
        assert_eq!(
            pool.instances(),
            0,
            "{behaviour:?}: instances outlive their shelves"
        );
        assert_eq!(
            pool.memory_bytes(),
            0,
            "{behaviour:?}: memory outlives its instances"
        );
        outcome
    }

    fn batches_cross(&self) {
        let kept = self.run(
            Behaviour::Keep,
            InstanceOptions::default(),
            &[&["a", "b"], &[]],
        );
        assert_eq!(kept, [vec!["keep", "keep"], vec![]]);
        let echoed = self.run(
            Behaviour::Echo,
            InstanceOptions::default(),
            &[&["a", "", "c"], &["d"]],
        );
        assert_eq!(echoed, [vec!["=a", "=", "=c"], vec!["=d"]]);
        let counted = self.run(
            Behaviour::Count,
            InstanceOptions::default(),
            &[&["a", "b"], &["c"]],
        );
        assert_eq!(
            counted,
            [vec!["=1", "=2"], vec!["=3"]],
            "an instance is reused"
        );
        let counted = self.run(
            Behaviour::Count,
            InstanceOptions::default(),
            &[&["a", "b"], &["!"], &["c"]],
        );
        assert_eq!(
            counted,
            [vec!["=1", "=2"], vec!["Trap"], vec!["=1"]],
            "one that has failed is not"
        );
    }

    fn failures_cost_their_record(&self) {
        let outcome = self.run(
            Behaviour::Echo,
            InstanceOptions::default(),
            &[&["a", "!", "c", "!", "e"], &["!"], &["f"]],
        );
        assert_eq!(
            outcome,
            [
                vec!["=a", "Trap", "=c", "Trap", "=e"],
                vec!["Trap"],
                vec!["=f"]
            ]
        );
    }

    fn guests_are_stopped(&self) {
        let pool = self.pool();
        let template = self.template(&pool, Behaviour::Echo, InstanceOptions::default());
        let mut shelves = pool.shelves();
        let deadline = Instant::now() + Duration::from_millis(20);
        let Err(error) = shelves.call(&template, &[record("a"), record("?")], deadline) else {
            panic!("a guest that never returns has answered");
        };
        assert_eq!(error.kind(), FailureKind::Timeout);
        assert!(error.is_retryable());
        assert!(Instant::now() >= deadline, "stopped before its time");
        let Ok(verdicts) = shelves.call(&template, &[record("b")], soon()) else {
            panic!("the next record is not served");
        };
        assert_eq!(word(verdicts.get(0)), "=b");
    }

    fn no_memory_is_said_to_be_that(&self) {
        let outcome = self.run(
            Behaviour::Full,
            InstanceOptions::default(),
            &[&["a", "b"], &["c"]],
        );
        assert_eq!(
            outcome,
            [vec!["MemoryLimit", "MemoryLimit"], vec!["MemoryLimit"]]
        );
    }

    fn lies_are_invalid_output(&self) {
        for behaviour in [Behaviour::Garbage, Behaviour::WildPointer] {
            let outcome = self.run(behaviour, InstanceOptions::default(), &[&["a", "b"]]);
            assert_eq!(
                outcome,
                [["InvalidOutput", "InvalidOutput"]],
                "{behaviour:?}"
            );
        }
    }

    fn legacy_modules_work(&self) {
        let outcome = self.run(
            Behaviour::Legacy,
            InstanceOptions::default(),
            &[&["a", "!", "c"]],
        );
        assert_eq!(outcome, [["=a", "Module", "=c"]]);
        let long = "x".repeat(20_000);
        let values = [long.as_str(); 10];
        let outcome = self.run(
            Behaviour::LegacyLeak,
            InstanceOptions::default(),
            &[&values],
        );
        assert!(
            outcome[0].iter().all(|word| word[1..] == long),
            "a guest that wears out is replaced"
        );
    }

    fn isolation_holds(&self) {
        for (isolation, expected) in [
            (Isolation::Instance, [["=1", "=2"], ["=3", "=4"]]),
            (Isolation::Batch, [["=1", "=2"], ["=1", "=2"]]),
            (Isolation::Record, [["=1", "=1"], ["=1", "=1"]]),
        ] {
            let options = InstanceOptions {
                isolation,
                ..InstanceOptions::default()
            };
            let outcome = self.run(Behaviour::Count, options, &[&["a", "b"], &["c", "d"]]);
            assert_eq!(outcome, expected, "{isolation:?}");
        }
    }

    fn what_cannot_start_says_so(&self) {
        let pool = self.pool();
        let source = ModuleSource {
            id: "foreign",
            bytes: &(self.module)(Behaviour::Foreign),
            expected_sha256: None,
        };
        let Err(error) = pool.load(source) else {
            panic!("a module of neither ABI has loaded");
        };
        assert_eq!(error.kind(), PoolErrorKind::Exports);
        assert!(error.message().contains("foreign"), "{error}");

        let mut shelves = pool.shelves();
        let stuck = self.template(&pool, Behaviour::StuckStart, InstanceOptions::default());
        let deadline = Instant::now() + Duration::from_millis(20);
        let Err(error) = shelves.call(&stuck, &[record("a")], deadline) else {
            panic!("a start function that never returns has returned");
        };
        assert_eq!(error.kind(), FailureKind::Timeout);

        let options = InstanceOptions {
            custom_config: b"{\"a\":1}".to_vec().into(),
            ..InstanceOptions::default()
        };
        let refusing = self.template(&pool, Behaviour::Refuse, options);
        let Err(error) = shelves.call(&refusing, &[record("a")], soon()) else {
            panic!("a refused configuration was accepted");
        };
        assert_eq!(error.kind(), FailureKind::Module);
        assert!(error.message().contains("{\"a\":1}"), "{error}");
        assert_eq!(pool.instances(), 0);
    }
}

fn record(value: &str) -> NewRecord<'_> {
    NewRecord {
        topic: "suite",
        value: value.as_bytes(),
        ..NewRecord::default()
    }
}

fn word(verdict: Result<Verdict<'_>, &CallError>) -> String {
    match verdict {
        Ok(Verdict::Keep) => "keep".to_owned(),
        Ok(Verdict::SetValue(value)) => format!("={}", String::from_utf8_lossy(value)),
        Ok(other) => format!("{other:?}"),
        Err(error) => error.kind().to_string(),
    }
}
