//! `etl module inspect`: what a WASM file is, before anybody runs it.

use std::fmt::Write as _;
use std::fs;

use etl_pool::{Abi, ModuleReport, inspect as look};
use serde_json::{Value, json};

use crate::arguments::InspectOptions;
use crate::exit::Exit;
use crate::output::{self, grouped};

/// Runs the command.
pub fn inspect(options: &InspectOptions) -> Result<(), Exit> {
    let file = options.file.display().to_string();
    let bytes = fs::read(&options.file)
        .map_err(|error| Exit::failed(format_args!("cannot read {file}: {error}")))?;
    let report = look(&bytes);
    if options.json {
        output::print_json(&as_json(&file, &report))?;
    } else {
        output::print(&as_text(&file, &report))?;
    }
    match report.problems.len() {
        0 => Ok(()),
        _ => Err(Exit::failed(format_args!(
            "{file} cannot be used as a module"
        ))),
    }
}

fn as_json(file: &str, report: &ModuleReport) -> Value {
    let facts = &report.facts;
    let imports = facts.imports.iter();
    let imports = imports.map(|import| json!({ "module": import.module, "name": import.name, "signature": import.signature }));
    let exports = facts.exports.iter();
    let exports =
        exports.map(|export| json!({ "name": export.name, "signature": export.signature }));
    let problems = report.problems.iter();
    let problems = problems.map(
        |problem| json!({ "kind": format!("{:?}", problem.kind()), "message": problem.message() }),
    );
    json!({
        "file": file,
        "abi": facts.abi.map(Abi::as_str),
        "size_bytes": report.size,
        "sha256": hexadecimal(&report.sha256),
        "functions": facts.functions,
        "memory": {
            "minimum_bytes": facts.memory_minimum_bytes,
            "maximum_bytes": facts.memory_maximum_bytes,
        },
        "imports": imports.collect::<Vec<_>>(),
        "exports": exports.collect::<Vec<_>>(),
        "nondeterministic": facts.nondeterministic,
        "problems": problems.collect::<Vec<_>>(),
    })
}

fn as_text(file: &str, report: &ModuleReport) -> String {
    let facts = &report.facts;
    let memory = match facts.memory_maximum_bytes {
        Some(maximum) => format!(
            "{} bytes at the start, at most {}",
            grouped(facts.memory_minimum_bytes),
            grouped(maximum)
        ),
        None => format!(
            "{} bytes at the start, no maximum of its own",
            grouped(facts.memory_minimum_bytes)
        ),
    };
    let result = if facts.nondeterministic {
        "may depend on a clock or on random numbers"
    } else {
        "depends on the input alone"
    };
    let imports = facts.imports.iter();
    let imports =
        imports.map(|import| format!("{}.{} {}", import.module, import.name, import.signature));
    let exports = facts
        .exports
        .iter()
        .map(|export| format!("{} {}", export.name, export.signature));
    let mut text = format!("{file}\n");
    let rows = [
        (
            "ABI",
            vec![
                facts
                    .abi
                    .map_or("none that is known", Abi::as_str)
                    .to_owned(),
            ],
        ),
        (
            "size",
            vec![format!("{} bytes", grouped(report.size as u64))],
        ),
        ("SHA-256", vec![hexadecimal(&report.sha256)]),
        ("functions", vec![grouped(facts.functions as u64)]),
        ("memory", vec![memory]),
        ("result", vec![result.to_owned()]),
        ("imports", imports.collect()),
        ("exports", exports.collect()),
        (
            "problems",
            report.problems.iter().map(ToString::to_string).collect(),
        ),
    ];
    // Of what is not WebAssembly nothing else is known.
    let unread = facts.abi.is_none() && facts.functions == 0 && facts.exports.is_empty();
    let known = |what: &str| !unread || matches!(what, "size" | "SHA-256" | "problems");
    for (what, lines) in rows.into_iter().filter(|(what, _)| known(what)) {
        let nothing = vec!["none".to_owned()];
        let lines: &[String] = if lines.is_empty() { &nothing } else { &lines };
        for (index, line) in lines.iter().enumerate() {
            let label = if index == 0 { what } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {label:<10} {line}");
        }
    }
    text
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
