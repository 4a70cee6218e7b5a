//! `cargo xtask memcheck`: runs the tests of `etl-pool` in Valgrind, which looks at every access to memory, that of compiled guests too.
//!
//! Miri knows neither mappings nor code that is made at run time, and a sanitizer does not see what guests do. What Valgrind cannot do is listed in
//! [`LEFT_OUT`]; the one report that is known to be none is in `memcheck.supp`.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::process;

/// Options of `cargo xtask memcheck`.
#[derive(clap::Args)]
#[command(long_about = "Run the tests of etl-pool in Valgrind's memcheck\n\n\
                  Needs `valgrind`, which the system's packages have by that name. The exit code is 1 where a test fails, or where memory is\n\
                  read or written that is not to be, or is looked at before anything was written to it.")]
pub struct Arguments {
    /// Run these test programs alone; may be given more than once
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,
}

/// The test programs; `etl_pool` are the unit tests.
const PROGRAMS: [&str; 5] = ["etl_pool", "engines", "calls", "hostile", "many"];

/// Tests that Valgrind cannot run. A guest is stopped by a load whose result nobody wants, and those it leaves out; the last three take it too long.
const LEFT_OUT: [&str; 9] = [
    "a_timeout_may_be_tried_again_and_recursion_is_named",
    "every_attack_costs_its_record_alone",
    "every_attack_by_way_of_the_legacy_abi_costs_its_record_alone",
    "straight_lines_are_stopped_too",
    "bulk_instructions_over_4_gib_are_stopped",
    "memory_init_in_a_row_is_stopped",
    "bulk_instructions_trap_where_they_leave_what_is_there",
    "a_thousand_memory_bombs_stay_within_the_budget",
    "wild_legacy_pointers_and_lengths_are_never_followed",
];

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let root = process::repository_root();
    let is_there = Command::new("valgrind")
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !is_there {
        return Err("memcheck needs `valgrind` (`apt install valgrind`)".to_owned());
    }
    let wanted = |program: &&str| {
        arguments.test.is_empty() || arguments.test.iter().any(|name| name == program)
    };
    let programs: Vec<&str> = PROGRAMS.into_iter().filter(wanted).collect();
    if programs.is_empty() {
        return Err(format!(
            "no test program is called so; there are: {}",
            PROGRAMS.join(", ")
        ));
    }
    let mut command = process::cargo(&root);
    command.args(["test", "--no-run", "--workspace", "--lib"]);
    for program in &PROGRAMS[1..] {
        command.args(["--test", program]);
    }
    let messages = process::cargo_messages(&mut command)?;
    let start = Instant::now();
    for program in programs {
        let executable = messages
            .iter()
            .filter(|message| message["target"]["name"] == *program)
            .find_map(|message| message["executable"].as_str())
            .ok_or_else(|| format!("`{}` built no {program}", process::shown(&command)))?;
        let mut valgrind = Command::new("valgrind");
        valgrind
            .args(["--quiet", "--error-exitcode=9", "--fair-sched=try"])
            .arg(format!(
                "--suppressions={}",
                root.join("xtask/memcheck.supp").display()
            ))
            .arg(executable)
            .arg("--test-threads=1")
            .current_dir(root.join("crates/etl-pool"));
        for test in LEFT_OUT {
            valgrind.args(["--skip", test]);
        }
        process::run(&mut valgrind)?;
    }
    eprintln!(
        "memcheck found nothing ({:.0} s); left out: {}",
        start.elapsed().as_secs_f64(),
        LEFT_OUT.join(", ")
    );
    Ok(())
}
