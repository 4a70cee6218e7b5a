//! From file to file with a checkpoint: runs are killed in mid-stream, and every record comes out, in order.

use std::collections::HashSet;
use std::process::Child;
use std::time::Duration;

use crate::support::Desk;
use crate::topics::{desk, lines};

const RUN: [&str; 11] = [
    "run",
    "etl.toml",
    "--from",
    "file:in?checkpoint=position",
    "--to",
    "file:out?append",
    "--in-flight",
    "500",
    "--batch",
    "50",
    "--quiet",
];

/// Ends its process however the test ends.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended meanwhile.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The numbers that came out, each in the place where it came first, and the most by which any went back.
fn arrived(desk: &Desk) -> (Vec<u64>, u64) {
    let (mut first, mut seen, mut back) = (Vec::new(), HashSet::new(), 0);
    for line in desk.read("out").lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("a whole record");
        let number = record["value"].as_u64().expect("a number");
        match seen.insert(number) {
            true => first.push(number),
            false => back = back.max(first.len() as u64 - number),
        }
    }
    (first, back)
}

#[test]
fn kill_9_loses_nothing_of_a_file() {
    const COUNT: u64 = 60_000;
    let desk = desk();
    desk.put("in", lines(COUNT as usize));
    let mut kills = 0;
    for life in 1_u64.. {
        let mut run = Run(desk.command(&RUN).spawn().expect("etl starts"));
        if life > 8 {
            assert!(run.0.wait().expect("ends").success());
            break;
        }
        // Somewhere between its first steps and the middle of its work.
        std::thread::sleep(Duration::from_millis(80 + life * 53 % 240));
        if let Some(ended) = run.0.try_wait().expect("can be asked") {
            assert!(ended.success());
            break;
        }
        drop(run);
        kills += 1;
    }
    assert!(kills > 0, "it was over before anything was killed");
    let (numbers, back) = arrived(&desk);
    let expected: Vec<u64> = (0..COUNT).collect();
    assert!(numbers == expected, "{} arrived in order", numbers.len());
    // Of what was in flight, which may have come already; of nothing else.
    assert!(back <= 500, "{back} came again");

    // What is appended to the input is all that the next run brings.
    desk.put("in", lines(COUNT as usize + 3));
    let before = desk.read("out").lines().count();
    desk.etl(&RUN).ends_with(0);
    assert_eq!(desk.read("out").lines().count(), before + 3);
}

#[test]
fn an_output_that_would_be_emptied_is_refused_before_anything_is_lost() {
    let desk = desk();
    desk.put("in", lines(3)).put("out", "dear\n");
    let mut run = RUN;
    run[5] = "file:out";
    desk.etl(&run)
        .complains(&["would be emptied", "file:out?append"]);
    assert_eq!(desk.read("out"), "dear\n");
}
