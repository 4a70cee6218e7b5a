//! `cargo xtask profile SCENARIO`: where the time of a scenario goes.
//!
//! With `perf` it samples the subjects of the scenario, without their floors, and writes a flame graph and, beside it as text, the functions that take
//! most. Without it the instructions are counted by valgrind instead, function by function, which says nothing of waiting for memory but is the same each time.
//!
//! Code that is compiled at run time has no symbols, and modules are stripped of their names: what a module does is one frame, named [`GUEST`]. Calls are
//! unwound by their debug information, which ends at such a frame: what a module's code was called by is seen in the frames of the pool that
//! stand beside it, not below it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use inferno::flamegraph;

use crate::{bench, guests, process};

/// What stands for the code of modules.
const GUEST: &str = "module code (compiled at run time)";

/// Options of `cargo xtask profile`.
#[derive(clap::Args)]
#[command(
    long_about = "Say where the time of a benchmark scenario goes\n\n\
                  Builds the scenarios in release mode, runs the subjects of one of them without their floors, and writes to target/profile:\n  \
                  SCENARIO.svg  a flame graph, to be opened in a browser: click to zoom, Ctrl-F to search\n  \
                  SCENARIO.txt  the functions that take most\n\
                  That needs `perf` (Debian: apt-get install linux-perf; Ubuntu: linux-tools-generic). Where it is not, or may not sample,\n\
                  valgrind counts instructions and only the text is written.",
    after_help = "Examples:\n  cargo xtask bench --list\n  cargo xtask profile single_module\n  cargo xtask profile conditions_three_fields --count"
)]
pub struct Arguments {
    /// The scenario, as `cargo xtask bench --list` names it
    scenario: String,
    /// Time for each of its variants, in seconds
    #[arg(long, value_name = "N", default_value_t = 5)]
    seconds: u32,
    /// Count instructions with valgrind, even where perf is there
    #[arg(long)]
    count: bool,
}

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let root = process::repository_root();
    guests::build(&root, &[])?;
    let program = bench::program(&root, "release")?;
    let folder = root.join("target/profile");
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let at = |ending: &str| folder.join(format!("{}.{ending}", arguments.scenario));
    if !arguments.count {
        match sample(&program, arguments, &at) {
            Ok(()) => return Ok(()),
            Err(problem) => eprintln!("{problem}\ncounting instructions instead"),
        }
    }
    count(&program, arguments, &at)
}

fn subjects(program: &Path, arguments: &Arguments, seconds: u32) -> Vec<String> {
    [
        &*program.display().to_string(),
        "--without-floor",
        "--scenario",
        &arguments.scenario,
        "--seconds",
        &seconds.to_string(),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Samples with perf, and draws.
fn sample(
    program: &Path,
    arguments: &Arguments,
    at: &impl Fn(&str) -> PathBuf,
) -> Result<(), String> {
    let data = at("perf.data");
    let mut record = Command::new("perf");
    record
        .args([
            "record",
            "--quiet",
            "--freq",
            "999",
            "--call-graph",
            "dwarf,4096",
        ])
        .arg("--output")
        .arg(&data)
        .arg("--")
        .args(subjects(program, arguments, arguments.seconds));
    process::run(&mut record)?;

    let mut report = Command::new("perf");
    report.args([
        "report",
        "--stdio",
        "--no-children",
        "--no-inline",
        "--call-graph",
        "none",
    ]);
    report.args(["--sort", "dso,symbol", "--input"]);
    report.arg(&data).stderr(Stdio::null());
    let list = joined(&process::output(&mut report)?);
    write(&at("txt"), list.as_bytes())?;

    let mut script = Command::new("perf");
    script
        .args(["script", "--no-inline", "--input"])
        .arg(&data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = script
        .spawn()
        .map_err(|error| format!("cannot start `{}`: {error}", process::shown(&script)))?;
    let output = child.stdout.take().ok_or("perf has no output")?;
    let mut stacks = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| format!("cannot read what perf sampled: {error}"))?;
        if !is_cut_off(&line) {
            stacks.extend(line.bytes().chain([b'\n']));
        }
    }
    let mut folded = Vec::new();
    Folder::default()
        .collapse(&*stacks, &mut folded)
        .map_err(|error| format!("cannot read what perf sampled: {error}"))?;
    child.wait().map_err(|error| error.to_string())?;
    let folded = renamed(&String::from_utf8_lossy(&folded));

    let mut options = flamegraph::Options::default();
    options.title = format!("{}: where the time goes", arguments.scenario);
    options.count_name = "samples".to_owned();
    let svg = at("svg");
    let file =
        File::create(&svg).map_err(|error| format!("cannot write {}: {error}", svg.display()))?;
    flamegraph::from_lines(&mut options, folded.lines(), file)
        .map_err(|error| format!("cannot draw: {error}"))?;
    drop(std::fs::remove_file(&data));

    head(&list);
    println!("{}\n{}", svg.display(), at("txt").display());
    Ok(())
}

/// Whether a frame says only that the part of the stack that was kept ends here.
fn is_cut_off(frame: &str) -> bool {
    frame.trim_start().starts_with("ffffffffffffffff ")
}

/// Functions that take less of the samples than this, in percent, are left out of the list.
const LEAST: f64 = 0.3;

/// The list of functions with the code of modules as one of them: perf has a line for each of its addresses.
fn joined(list: &str) -> String {
    let share = |line: &str| -> Option<f64> {
        line.split_whitespace()
            .next()?
            .strip_suffix('%')?
            .parse()
            .ok()
    };
    let is_guest = |line: &str| line.contains("[JIT] ") || line.contains("perf-");
    let guest: f64 = list
        .lines()
        .filter(|line| is_guest(line))
        .filter_map(share)
        .sum();
    let mut own = (guest >= LEAST).then(|| format!("{guest:9.2}%  {GUEST}\n"));
    let mut joined = String::new();
    for line in list.lines() {
        if let Some(share) = share(line) {
            if is_guest(line) || share < LEAST {
                continue;
            }
            if share < guest {
                joined.extend(own.take());
            }
        }
        joined.push_str(line.trim_end());
        joined.push('\n');
    }
    joined.extend(own);
    joined
}

/// Names the code of modules, for which perf has an address in memory that belongs to no file, or the name of a map that nobody wrote.
fn renamed(text: &str) -> String {
    let mut named = String::with_capacity(text.len());
    for line in text.lines() {
        let is_guest = |frame: &str| {
            frame == "[unknown]" || frame.contains("[//anon]") || frame.contains("[perf-")
        };
        let mut before = "";
        for frame in line.split_inclusive(';') {
            let bare = frame.trim_end_matches(';');
            let (bare, count) = match bare.rsplit_once(' ') {
                Some((bare, count)) if count.parse::<u64>().is_ok() => (bare, Some(count)),
                _ => (bare, None),
            };
            let name = if is_guest(bare) { GUEST } else { bare };
            // Frames of a module that call each other have one name, and are one.
            if name != GUEST || before != GUEST {
                named.push_str(name);
                named.push(';');
            }
            if let Some(count) = count {
                named.pop();
                named.push(' ');
                named.push_str(count);
            }
            before = name;
        }
        named.push('\n');
    }
    named
}

/// Counts with valgrind, and lists.
fn count(
    program: &Path,
    arguments: &Arguments,
    at: &impl Fn(&str) -> PathBuf,
) -> Result<(), String> {
    let counted = at("callgrind");
    let mut command = Command::new("valgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", counted.display()))
        .args(subjects(program, arguments, 0));
    process::run(&mut command).map_err(|problem| {
        format!(
            "{problem}\n    this needs perf or valgrind: apt-get install linux-perf, or valgrind"
        )
    })?;
    let mut annotate = Command::new("callgrind_annotate");
    let list = process::output(annotate.arg(&counted))?;
    write(&at("txt"), list.as_bytes())?;
    head(&list);
    println!("{}\n{}", counted.display(), at("txt").display());
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    File::create(path)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The first lines that say something.
fn head(list: &str) {
    let lines = list
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.take(30).for_each(|line| println!("{line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_modules_is_one_function_in_the_list() {
        let list = "# Overhead\n\n    50.00%  bench  [.] serve\n     4.00%  [JIT] tid 7  [.] 0x00007f\n     3.00%  bench  [.] parse\n     \
                    2.50%  perf-7.map  [.] 0x00008f\n     0.10%  bench  [.] seldom\n";
        let expected = format!(
            "# Overhead\n\n    50.00%  bench  [.] serve\n     6.50%  {GUEST}\n     3.00%  bench  [.] parse\n"
        );
        assert_eq!(joined(list), expected);
    }

    #[test]
    fn frames_of_modules_have_one_name_and_where_a_stack_was_cut_is_no_frame() {
        assert_eq!(
            renamed("bench;main;[unknown];[unknown] 3\n"),
            format!("bench;main;{GUEST} 3\n")
        );
        assert!(is_cut_off("\tffffffffffffffff [unknown] ([unknown])"));
        assert!(!is_cut_off(
            "\t    7f9c24ee2d6f [unknown] (/tmp/perf-12513.map)"
        ));
    }
}
