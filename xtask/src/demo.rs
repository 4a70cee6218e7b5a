//! `cargo xtask demo`: real records through real modules, and what became of them.
//!
//! Builds the guest modules and the program, runs the program on `docs/examples/demo` as a user would, and tells the stories of a few records from
//! what it wrote. Nothing is shown that was not read from the program's output: a title says what to look at, not what came out.

mod line;
mod story;

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::{guests, process};
use line::Line;
use story::{Paint, Story};

const EXAMPLE: &str = "docs/examples/demo";

/// The records whose stories are told: title, key (none: the line that is no record), and the fields of a long value to show.
const STORIES: &[(&str, Option<&str>, &[&str])] = &[
    (
        "A thermometer that speaks Fahrenheit",
        Some("kitchen-1"),
        &[],
    ),
    (
        "A barometer that speaks millimetres of mercury",
        Some("harbour-7"),
        &[],
    ),
    (
        "A strong earthquake, from the real feed",
        Some("us1000chhc"),
        &["magnitude", "place", "event_type"],
    ),
    (
        "An explosion, from the same feed",
        Some("uw61367096"),
        &["magnitude", "place", "event_type"],
    ),
    ("An order, which no pipeline asks for", Some("2041"), &[]),
    ("A broken thermometer", Some("freezer-1"), &[]),
    ("A line that was cut short", None, &[]),
];

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
#[command(
    long_about = "Run real records through real modules and show what became of them\n\n\
                  Builds the guest modules and the `etl` program (some minutes the first time, seconds after that), runs it on\n\
                  docs/examples/demo, and tells the stories of a few records. Change that folder and run it again."
)]
pub struct Arguments {}

/// Runs the chore.
pub fn run(_arguments: &Arguments) -> Result<(), String> {
    let root = process::repository_root();
    let start = Instant::now();
    eprintln!("building the guest modules and the program: some minutes the first time");
    let modules = guests::build(&root, &[])?;
    let program = build_program(&root)?;
    eprintln!(
        "built {} modules and etl in {:.0} s\n",
        modules,
        start.elapsed().as_secs_f64()
    );

    let folder = root.join("target/demo");
    fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let paint = Paint {
        colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let records = format!("{EXAMPLE}/data/records.ndjson");
    let (out, failed) = ("target/demo/out.ndjson", "target/demo/failed.ndjson");
    let arguments = [
        "run",
        EXAMPLE,
        "--from",
        &format!("file:{records}"),
        "--to",
        &format!("file:{out}"),
        "--dead-letters",
        &format!("file:{failed}"),
    ];
    let typed = arguments.join(" ").replace(" --", " \\\n      --");
    say(&format!("{}\n", paint.bold(&format!("$ etl {typed}"))));
    // The summary is the program's own, on this terminal; its log would say again what the stories tell.
    process::run(
        Command::new(program)
            .current_dir(&root)
            .args(arguments)
            .env("ETL_LOG", "error"),
    )?;

    let (inputs, outputs, dead_letters) = (
        read(&root, &records)?,
        read(&root, out)?,
        read(&root, failed)?,
    );
    let mut text = String::new();
    for (title, key, fields) in STORIES {
        let story = Story::of(title, *key, &inputs, &outputs, &dead_letters)
            .ok_or_else(|| format!("the demo's data has changed: nothing tells `{title}`; adjust STORIES in xtask/src/demo.rs"))?;
        text.push_str(&story.told(fields, paint));
    }
    text.push_str(&format!(
        "\nAll that came out is in {out} and {failed}.\n\
         The pipelines are in {EXAMPLE}/pipelines, the module earthquake-alert in {EXAMPLE}/src/lib.rs: change one and run this again.\n"
    ));
    say(&text);
    Ok(())
}

/// Builds `etl` and returns where it is.
///
/// A test is asked for as well, and the whole workspace, because cargo then turns on the features that the tests' dependencies want: what takes minutes
/// (the wasm compiler) is built once, and the same for `cargo xtask demo` and `cargo xtask test`.
pub fn build_program(root: &Path) -> Result<PathBuf, String> {
    let mut command = process::cargo(root);
    let messages = process::cargo_messages(command.args([
        "build",
        "--workspace",
        "--bin",
        "etl",
        "--test",
        "demo",
    ]))?;
    let executable = |message: &Value| {
        (message["target"]["name"] == "etl")
            .then(|| message["executable"].as_str().map(PathBuf::from))?
    };
    messages
        .iter()
        .find_map(executable)
        .ok_or_else(|| "cargo built no program called etl".to_owned())
}

fn read(root: &Path, path: &str) -> Result<Vec<Line>, String> {
    let text = fs::read_to_string(root.join(path))
        .map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(text.lines().map(Line::parse).collect())
}

/// To stdout; a reader that has gone away (`| head`) is no failure of the demo.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}
