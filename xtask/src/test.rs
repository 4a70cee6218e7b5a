//! `cargo xtask test`: builds the guest modules, and the program that makes others, then runs every test of the workspace, documentation examples included.
//!
//! A test that needs something the machine lacks (a data corpus, a server) prints `skipped: <what>: <how to get it>` and passes. libtest hides what
//! passing tests print, so this chore asks for it, takes out the skip notes, and ends with them: a green run never hides what did not run.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use crate::{generator, guests, process};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
#[command(
    long_about = "Build the guest modules and the generator of others, then run every test of the workspace, documentation examples included\n\n\
                  Arguments go to `cargo test` as they are, and after `--` to the test programs. Tests that need something this machine\n\
                  does not have are skipped, and named at the end with how to get it.",
    after_help = "Examples:\n  cargo xtask test\n  cargo xtask test -p etl-filter\n  cargo xtask test -- conflict --nocapture\n  cargo xtask test --kafka"
)]
pub struct Arguments {
    /// Run the tests of the Kafka adapter instead: against a mock cluster, or the brokers that KAFKA_BOOTSTRAP names
    #[arg(long)]
    kafka: bool,
    /// Given to `cargo test`
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<String>,
}

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let root = process::repository_root();
    if arguments.kafka {
        return tests(&root, &kafka_arguments(&arguments.arguments));
    }
    let start = Instant::now();
    guests::build(&root, &[])?;
    eprintln!(
        "guest modules are in target/guests ({:.0} s)",
        start.elapsed().as_secs_f64()
    );
    if concerns(&arguments.arguments, "etl-pool") {
        let start = Instant::now();
        generator::build(&root)?;
        eprintln!(
            "the generator of modules is in target/generator ({:.0} s)",
            start.elapsed().as_secs_f64()
        );
    }

    let is_terminal = std::io::stdout().is_terminal();
    tests(&root, &test_arguments(&arguments.arguments, is_terminal))
}

fn tests(root: &Path, arguments: &[String]) -> Result<(), String> {
    let start = Instant::now();
    let mut command = process::cargo(root);
    command.args(arguments);
    let mut transcript = Transcript::default();
    let status = process::each_line(&mut command, |line| {
        let line = String::from_utf8_lossy(line);
        // A reader that went away (`| head`) must not stop the tests.
        if transcript.read(&line) {
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    })?;
    eprint!("{}", transcript.summary(start.elapsed().as_secs_f64()));
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}` failed ({status})", process::shown(&command)))
    }
}

/// Most of what these tests do is to wait for a mock to form groups, so many of them run at a time. They need no module.
fn kafka_arguments(for_tests: &[String]) -> Vec<String> {
    const GIVEN: &str = "test --workspace --features etl-broker-adapter/kafka --test kafka -- --show-output --test-threads=12";
    let given = GIVEN.split(' ').map(str::to_owned);
    let separator = |argument: &&String| *argument != "--";
    given
        .chain(for_tests.iter().filter(separator).cloned())
        .collect()
}

/// Whether the tests of a package are among what was asked for: it is named, or none is.
fn concerns(given: &[String], package: &str) -> bool {
    let for_cargo = given.iter().take_while(|argument| *argument != "--");
    let named: Vec<&String> = for_cargo
        .skip_while(|argument| !names_package(argument))
        .collect();
    named.is_empty() || named.iter().any(|argument| argument.ends_with(package))
}

fn names_package(argument: &str) -> bool {
    argument.starts_with("-p") || argument.starts_with("--package")
}

/// The arguments of `cargo`: everything, unless the user named packages; and the output of tests that pass, for its skip notes.
fn test_arguments(given: &[String], is_terminal: bool) -> Vec<String> {
    let split = given
        .iter()
        .position(|argument| argument == "--")
        .unwrap_or(given.len());
    let (for_cargo, for_tests) = (&given[..split], given.get(split + 1..).unwrap_or_default());
    let names_packages = for_cargo.iter().any(|argument| names_package(argument));
    let mut arguments = vec!["test".to_owned()];
    if !names_packages {
        arguments.push("--workspace".to_owned());
    }
    arguments.extend_from_slice(for_cargo);
    arguments.extend(["--".to_owned(), "--show-output".to_owned()]);
    if is_terminal
        && !for_tests
            .iter()
            .any(|argument| argument.starts_with("--color"))
    {
        arguments.push("--color=always".to_owned());
    }
    arguments.extend_from_slice(for_tests);
    arguments
}

/// Reads what libtest prints, line by line.
#[derive(Default)]
struct Transcript {
    inside_successes: bool,
    skipped: Vec<String>,
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Transcript {
    /// Takes one line and says whether the user should see it: everything but what passing tests print.
    fn read(&mut self, line: &str) -> bool {
        if let Some(note) = line.trim_start().strip_prefix("skipped:") {
            let note = note.trim().to_owned();
            if !self.skipped.contains(&note) {
                self.skipped.push(note);
            }
        }
        if let Some(result) = line.strip_prefix("test result:") {
            self.inside_successes = false;
            self.count(result);
        } else if line == "failures:" {
            self.inside_successes = false;
        } else if line == "successes:" {
            self.inside_successes = true;
        }
        !self.inside_successes
    }

    /// Adds up ` ok. 3 passed; 0 failed; 1 ignored; …`.
    fn count(&mut self, result: &str) {
        let words: Vec<&str> = result.split_whitespace().collect();
        for pair in words.windows(2) {
            let Ok(number) = pair[0].parse::<u64>() else {
                continue;
            };
            match pair[1].trim_end_matches(';') {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }

    fn summary(&self, seconds: f64) -> String {
        let mut text = format!(
            "\n{} passed, {} failed, {} ignored, {} skipped, in {seconds:.0} s\n",
            self.passed,
            self.failed,
            self.ignored,
            self.skipped.len()
        );
        for note in &self.skipped {
            text.push_str(&format!("  skipped: {note}\n"));
        }
        if self.ignored > 0 {
            text.push_str("  ignored tests say why beside their name; run them with: cargo xtask test -- --include-ignored\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_reach_cargo_and_the_tests() {
        assert_eq!(
            test_arguments(&[], false),
            words("test --workspace -- --show-output")
        );
        assert_eq!(
            test_arguments(&words("-p etl-abi"), false),
            words("test -p etl-abi -- --show-output")
        );
        assert_eq!(
            test_arguments(&words("--lib -- name"), true),
            words("test --workspace --lib -- --show-output --color=always name")
        );
    }

    #[test]
    fn what_a_package_needs_is_built_where_it_is_tested() {
        for (given, concerned) in [
            ("", true),
            ("--release -- name", true),
            ("-p etl-pool --test hostile", true),
            ("--package=etl-pool", true),
            ("-p etl-filter -p etl-pool", true),
            ("-p etl-filter -- etl-pool", false),
        ] {
            assert_eq!(concerns(&words(given), "etl-pool"), concerned, "{given}");
        }
    }

    #[test]
    fn skip_notes_are_collected_and_the_output_of_passing_tests_is_hidden() {
        let printed = "running 2 tests\ntest corpus ... ok\ntest other ... ok\n\nsuccesses:\n\n---- corpus stdout ----\nskipped: flights: set ETL_TEST_DATA\nchatter\n\n\
                       successes:\n    corpus\n    other\n\ntest result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
                       running 1 test\ntest again ... ok\n\nsuccesses:\n\n---- again stdout ----\nskipped: flights: set ETL_TEST_DATA\n\n\
                       failures:\n\n---- bad stdout ----\nwhy\n\ntest result: FAILED. 1 passed; 1 failed; 0 ignored";
        let mut transcript = Transcript::default();
        let seen: Vec<&str> = printed
            .lines()
            .filter(|line| transcript.read(line))
            .collect();
        assert_eq!(
            transcript.skipped,
            ["flights: set ETL_TEST_DATA"],
            "a note is named once"
        );
        assert_eq!(
            (transcript.passed, transcript.failed, transcript.ignored),
            (3, 1, 1)
        );
        assert!(!seen.contains(&"chatter"));
        assert!(seen.contains(&"why"), "what a failing test prints stays");
        assert!(
            transcript
                .summary(1.0)
                .contains("skipped: flights: set ETL_TEST_DATA")
        );
    }
}
