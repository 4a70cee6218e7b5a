//! `cargo xtask bench --guard`: has anything become a quarter slower than `docs/record/guard.json` says?
//!
//! Times are of no use where other programs run, so none is compared. What is:
//!
//! - *ratios* to a floor that runs in turns with its subject, of the medians of single calls, which other programs hardly reach. One that looks worse is measured again, twice and for longer, and the best counts: a load
//!   comes and goes, code that became slower stays slow.
//! - *instructions a record*, counted by valgrind. The work is run with few and with many rounds, and the difference has neither the start nor the
//!   compiling of modules in it. Where there is no valgrind this half is left out, and said so.
//!
//! The file has a part for each of cargo's profiles, because a lightly optimised build has other figures.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::{bench, guests, process};

const FILE: &str = "docs/record/guard.json";
/// How many times what was recorded a figure may be.
const MOST: f64 = 1.25;

/// Scenarios whose ratios count.
const SCENARIOS: [&str; 5] = [
    "single_module",
    "three_stage",
    "conditional_three_stage",
    "thousand_pipelines",
    "isolation_record",
];
/// Seconds for each variant, in the first attempt and in the ones after a ratio that looks worse.
const SECONDS: [u32; 3] = [1, 3, 6];

/// Rounds of work between which the difference is taken.
const ROUNDS: (u64, u64) = (20, 220);

/// Figures by what they are of.
type Figures = BTreeMap<String, f64>;

/// Runs the guard, or records.
pub fn run(root: &Path, profile: &str, record: bool) -> Result<(), String> {
    guests::build(root, &[])?;
    let program = bench::program(root, profile)?;
    let mut file = read(&root.join(FILE))?;
    let recorded = |kind: &str| figures(&file[profile][kind]);
    let (before_ratios, before_counts) = if record {
        (Figures::new(), Figures::new())
    } else {
        (recorded("ratios"), recorded("instructions"))
    };
    if !record && before_ratios.is_empty() {
        return Err(format!(
            "{FILE} has nothing of the profile `{profile}`: `cargo xtask bench --guard --record --profile {profile}` writes it"
        ));
    }

    let ratios = ratios(&program, &before_ratios)?;
    let counts = match instructions(&program)? {
        Some(counts) => counts,
        None => {
            println!(
                "skipped: instruction counts: there is no valgrind; `apt-get install valgrind` brings it"
            );
            Figures::new()
        }
    };
    if record {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        // What could not be counted here stays as another machine counted it.
        let counts = if counts.is_empty() {
            recorded("instructions")
        } else {
            counts
        };
        file[profile] =
            json!({ "unix_seconds": seconds, "ratios": ratios, "instructions": counts });
        let path = root.join(FILE);
        return std::fs::write(&path, format!("{file:#}\n"))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
            .map(|()| println!("{FILE} is written"));
    }

    println!("{:<58} {:>10} {:>10}", "", "recorded", "now");
    let mut problems = judge("times the floor", &before_ratios, &ratios);
    if !counts.is_empty() {
        problems.extend(judge("instructions a record", &before_counts, &counts));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}\nif that is meant, `cargo xtask bench --guard --record --profile {profile}` records it; `cargo xtask profile SCENARIO` shows where the time goes",
        problems.join("\n")
    ))
}

fn read(path: &Path) -> Result<Value, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| format!("{} is not JSON: {error}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(json!({})),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

fn figures(value: &Value) -> Figures {
    let entries = value.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, figure)| Some((name.clone(), figure.as_f64()?)))
        .collect()
}

/// Prints each figure beside what was recorded, and answers what is wrong.
fn judge(unit: &str, recorded: &Figures, now: &Figures) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, &before) in recorded {
        let Some(&figure) = now.get(name) else {
            problems.push(format!("{name} is recorded in {FILE} and was not measured"));
            continue;
        };
        let change = figure / before;
        let worse = change > MOST;
        println!(
            "{name:<58} {before:>10.2} {figure:>10.2} {unit}, {:+.1} %{}",
            (change - 1.0) * 100.0,
            if worse { "  WORSE" } else { "" }
        );
        if worse {
            problems.push(format!(
                "{name}: {figure:.2} {unit}, which is {change:.2} times the {before:.2} that {FILE} says"
            ));
        }
    }
    for (name, figure) in now {
        if !recorded.contains_key(name) {
            println!("{name:<58} {:>10} {figure:>10.2} {unit}", "-");
        }
    }
    problems
}

/// The ratios of all variants, the best of as many attempts as it takes.
fn ratios(program: &Path, recorded: &Figures) -> Result<Figures, String> {
    let mut best = Figures::new();
    for scenario in SCENARIOS {
        for seconds in SECONDS {
            for (name, ratio) in measured(program, scenario, seconds)? {
                let kept = best.entry(name).or_insert(ratio);
                *kept = kept.min(ratio);
            }
            let of_scenario = |name: &str| name.starts_with(&format!("{scenario} / "));
            let looks_worse = recorded.iter().any(|(name, &before)| {
                of_scenario(name) && best.get(name).is_some_and(|now| now / before > MOST)
            });
            if !looks_worse {
                break;
            }
            eprintln!("{scenario} looks slower than recorded and is measured again, for longer");
        }
    }
    Ok(best)
}

fn measured(program: &Path, scenario: &str, seconds: u32) -> Result<Figures, String> {
    let path = std::env::temp_dir().join(format!("etl-guard-{}.json", std::process::id()));
    let mut command = Command::new(program);
    command
        .args(["--scenario", scenario, "--seconds", &seconds.to_string()])
        .arg("--json")
        .arg(&path);
    process::output(&mut command)?;
    let document = read(&path)?;
    // It is in the system's folder for such files, which somebody clears in any case.
    drop(std::fs::remove_file(&path));
    let rows = document["details"].as_array().into_iter().flatten();
    rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let name = format!("{} / {}", text("scenario"), text("variant"));
        let ratio = row["call_ratio"]
            .as_f64()
            .ok_or_else(|| format!("{name} has no ratio"))?;
        Ok((name, ratio))
    })
    .collect()
}

/// Instructions a record of each piece of work; None where there is nothing to count with.
fn instructions(program: &Path) -> Result<Option<Figures>, String> {
    let found = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let names = process::output(Command::new(program).arg("--counted"))?;
    let mut counts = Figures::new();
    for name in names.lines() {
        let (few, _) = count(program, name, ROUNDS.0)?;
        let (many, records) = count(program, name, ROUNDS.1)?;
        let records = (ROUNDS.1 - ROUNDS.0) * records;
        let each = many.saturating_sub(few) as f64 / records as f64;
        counts.insert(name.to_owned(), (each * 10.0).round() / 10.0);
    }
    Ok(Some(counts))
}

/// The instructions of a run, and the records of one of its rounds.
fn count(program: &Path, name: &str, rounds: u64) -> Result<(u64, u64), String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--rounds", &rounds.to_string(), "--counted", name])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let problem = || {
        format!(
            "`{name}` did not run under valgrind ({}):\n{said}",
            output.status
        )
    };
    if !output.status.success() {
        return Err(problem());
    }
    let instructions = collected(&said).ok_or_else(problem)?;
    let records = String::from_utf8_lossy(&output.stdout);
    let records = records.trim().parse().map_err(|_| problem())?;
    Ok((instructions, records))
}

/// Reads `==123== Collected : 456`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.split_once("Collected"))?;
    line.1.trim_start_matches([' ', ':']).trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_valgrind_says_is_read() {
        let said = "==7== Events    : Ir\n==7== Collected : 187234\n==7== \n==7== I   refs:      187,234\n";
        assert_eq!(collected(said), Some(187_234));
        assert_eq!(collected("==7== killed"), None);
    }

    #[test]
    fn a_quarter_is_allowed_and_more_is_not() {
        let figures = |list: &[(&str, f64)]| -> Figures {
            list.iter()
                .map(|(name, figure)| ((*name).to_owned(), *figure))
                .collect()
        };
        let recorded = figures(&[("a", 2.0), ("b", 2.0)]);
        assert!(
            judge(
                "",
                &recorded,
                &figures(&[("a", 2.5), ("b", 1.0), ("new", 9.0)])
            )
            .is_empty()
        );
        let problems = judge("", &recorded, &figures(&[("a", 2.6), ("b", 2.0)]));
        assert!(
            problems.len() == 1 && problems[0].contains("1.30 times"),
            "{problems:?}"
        );
        assert_eq!(
            judge("", &recorded, &figures(&[("a", 2.0)])).len(),
            1,
            "b is gone"
        );
    }
}
