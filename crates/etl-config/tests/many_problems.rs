//! Documents that are wrong in more places than anybody reads: the first are told, and that there are more.

use etl_config::{LoadOptions, Report, Severity, load_text};

const MOST: usize = 1000;

fn refused(name: &str, text: &str) -> Report {
    load_text(name, text, &LoadOptions::isolated()).expect_err("it cannot be used")
}

#[track_caller]
fn is_cut(report: &Report, severity: Severity) {
    assert_eq!(report.count(severity), MOST + 1);
    let mut problems = report.problems().iter();
    let last = problems.rfind(|problem| problem.severity() == severity);
    let last = last.expect("there are some").message();
    assert!(last.contains("the first 1000 are told"), "{last}");
}

#[test]
fn the_first_are_told_and_that_there_are_more() {
    let values = vec!["1"; 20 * MOST].join(",");
    is_cut(
        &refused("a.json", &format!("{{\"pipelines\":[{values}]}}")),
        Severity::Error,
    );
    is_cut(
        &refused("a.toml", &"x\n".repeat(20 * MOST)),
        Severity::Error,
    );
    let values = vec!["1"; MOST].join(",");
    let report = refused("a.json", &format!("{{\"pipelines\":[{values}]}}"));
    assert_eq!(report.count(Severity::Error), MOST);
}

#[test]
fn an_error_is_told_after_however_many_warnings() {
    // A star in an exact pattern is a star, and hardly meant as one.
    let doubtful = vec![r#"{ "filter_type": "Exact", "pattern": "a.*" }"#; 2 * MOST].join(",");
    let report = refused(
        "a.json",
        &format!(
            r#"{{ "pipelines": [{{ "pipeline_id": "p", "stages": [{{ "priority": 0, "modules": [{{ "module_id": "m", "topic_filters": [{doubtful}] }}] }}], "wrong": 1 }}] }}"#
        ),
    );
    is_cut(&report, Severity::Warning);
    assert_eq!(report.count(Severity::Error), 1);
}
