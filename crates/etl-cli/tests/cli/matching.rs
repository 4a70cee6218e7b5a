//! `etl match`: rules in both formats, topics in, lines out, and what is said of rules that are none.

use crate::support::{Desk, golden};

const TOML: &str = r#"
[[rules]]
id = "errors"
filters = [
  { filter_type = "Suffix", pattern = ".error" },
  { filter_type = "Regex", pattern = "^(web|mobile)\\.fatal", case_sensitive = false },
]

[[rules]]
id = "sensors-but-not-tests"
filter = { all = [
  { filter_type = "Mqtt", pattern = "sensors/+/temperature" },
  { not = { filter_type = "Contains", pattern = "test" } },
] }

[[rules]]
id = "long web errors"
filters = [
  { filter_type = "Prefix", pattern = "web." },
  { filter_type = "Exact", pattern = "web.error", negate = true },
]
filter_logic = "all"
"#;

const JSON: &str = r#"{ "rules": [
  { "id": "errors", "filters": [
    { "filter_type": "Suffix", "pattern": ".error" },
    { "filter_type": "Regex", "pattern": "^(web|mobile)\\.fatal", "case_sensitive": false } ] },
  { "id": "sensors-but-not-tests", "filter": { "all": [
    { "filter_type": "Mqtt", "pattern": "sensors/+/temperature" },
    { "not": { "filter_type": "Contains", "pattern": "test" } } ] } },
  { "id": "long web errors", "filter_logic": "all", "filters": [
    { "filter_type": "Prefix", "pattern": "web." },
    { "filter_type": "Exact", "pattern": "web.error", "negate": true } ] }
] }"#;

const TOPICS: &[u8] = b"web.error\r\nWEB.fatal.disk\nsensors/7/temperature\nsensors/test/temperature\n\nweb.\xff\nweb.\"quoted\".error";

#[test]
fn both_formats_match_alike() {
    let desk = Desk::new();
    desk.put("rules.toml", TOML)
        .put("rules.json", JSON)
        .put("topics", TOPICS);
    let expected = r#"{"topic":"web.error","rules":["errors"]}
{"topic":"WEB.fatal.disk","rules":["errors"]}
{"topic":"sensors/7/temperature","rules":["sensors-but-not-tests"]}
{"topic":"sensors/test/temperature","rules":[]}
{"topic":"","rules":[]}
{"topic_base64":"d2ViLv8=","rules":["long web errors"]}
{"topic":"web.\"quoted\".error","rules":["errors","long web errors"]}
"#;
    for rules in ["rules.toml", "rules.json"] {
        let said = desk
            .etl(&["match", "--rules", rules, "--topics", "topics"])
            .ends_with(0);
        assert_eq!(said.stdout, expected);
        assert_eq!(said.stderr, "");
        let piped = desk
            .etl_with_input(&["match", "--rules", rules], TOPICS)
            .ends_with(0);
        assert_eq!(piped.stdout, expected);
    }
}

#[test]
fn explanations() {
    let desk = Desk::new();
    desk.put("rules.toml", TOML);
    let topics = b"web.fatal.disk\nsensors/test/temperature\nweb.\xff\n";
    let said = desk
        .etl_with_input(&["match", "--rules", "rules.toml", "--explain"], topics)
        .ends_with(0);
    golden("match/explain.txt", &said.stdout);
    let said = desk
        .etl_with_input(
            &["match", "--rules", "rules.toml", "--explain", "--json"],
            topics,
        )
        .ends_with(0);
    golden("match/explain.ndjson", &said.stdout);
}

/// Memory and time differ from build to build: `0 bytes`, `0 s`.
fn without_measures(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let masked = words.iter().enumerate().map(|(place, word)| {
            let measures_bytes = words
                .get(place + 1)
                .is_some_and(|next| next.trim_end_matches(',') == "bytes");
            let measures_time = place > 0
                && words[place - 1] == "in"
                && word.starts_with(|c: char| c.is_ascii_digit());
            if measures_bytes || measures_time {
                "0"
            } else {
                word
            }
        });
        lines += &masked.collect::<Vec<_>>().join(" ");
        lines.push('\n');
    }
    lines
}

#[test]
fn what_the_rules_cost() {
    let desk = Desk::new();
    desk.put("rules.toml", TOML);
    let all = ["match", "--rules", "rules.toml", "--stats"];
    let plain = desk.etl_with_input(&all[..3], TOPICS).ends_with(0);
    let said = desk.etl_with_input(&all, TOPICS).ends_with(0);
    assert_eq!(said.stdout, plain.stdout, "statistics are no output");
    golden("match/stats.txt", &without_measures(&said.stderr));

    let said = desk
        .etl_with_input(&[&all[..], &["--json"]].concat(), TOPICS)
        .ends_with(0);
    assert_eq!(said.stdout, plain.stdout);
    let mut stats = said.summary();
    for measure in ["built_in_seconds", "memory_bytes"] {
        let value = stats[measure].take();
        assert!(
            value.as_f64().is_some_and(|value| value > 0.0),
            "{measure}: {value}"
        );
    }
    for (_, engine) in stats["engines"].as_object_mut().expect("an object") {
        assert!(engine["bytes"].take().is_u64());
    }
    golden("match/stats.json", &format!("{stats:#}\n"));

    let said = desk
        .etl_with_input(&[&all[..], &["--explain"]].concat(), b"web.error\n")
        .ends_with(0);
    assert!(said.stdout.starts_with("web.error"), "{}", said.stdout);
    assert!(said.stderr.contains("; 1 topic"), "{}", said.stderr);
}

#[test]
fn rules_that_are_none_are_named_with_their_place() {
    let desk = Desk::new();
    let rule = |filter: &str| format!("[[rules]]\nid = \"a\"\n{filter}\n");
    let leaf = |leaf: &str| rule(&format!("filters = [{{ {leaf} }}]"));
    let cases = [
        ("[[rules]\n".to_owned(), "rules.toml:1:"),
        ("".to_owned(), "missing field `rules`"),
        (
            "rules = 3".to_owned(),
            "rules.toml:1:9: invalid type: integer `3`, expected a sequence",
        ),
        (rule("filtr = 1"), "rules.toml:3:1: unknown field `filtr`"),
        (
            rule(""),
            "rules.toml:2:6: rule `a`: it has neither `filters` nor `filter`",
        ),
        (
            rule("filters = []"),
            "rules.toml:2:6: rule `a`: it has no filters",
        ),
        (
            leaf("pattern = \"x\""),
            "rules.toml:3:24: rule `a`: a filter lacks `filter_type`",
        ),
        (
            leaf("filter_type = \"Exact\""),
            "rules.toml:3:28: rule `a`: a filter lacks `pattern`",
        ),
        (
            leaf("filter_type = \"Glob\", pattern = \"x\""),
            "rules.toml:3:28: rule `a`: unknown filter kind `Glob`",
        ),
        (
            leaf("filter_type = \"Regex\", pattern = \"^a(b\""),
            "rules.toml:3:47: rule `a`: ",
        ),
        (
            leaf("filter_type = \"Mqtt\", pattern = \"a/#/b\""),
            "rules.toml:3:46: rule `a`: ",
        ),
        (
            rule(
                "filter_logic = \"some\"\nfilters = [{ filter_type = \"Exact\", pattern = \"x\" }]",
            ),
            "rules.toml:3:16: rule `a`: `filter_logic` is \"any\" or \"all\", not \"some\"",
        ),
        (
            rule("filter = { any = [], not = { filter_type = \"Exact\", pattern = \"x\" } }"),
            "rule `a`: a filter is one of `any`, `all`, `not`, or `filter_type` with `pattern`",
        ),
        (
            leaf("any = []"),
            "`filters` is a plain list; any, all and not go under `filter`",
        ),
        (
            format!("{0}{0}", leaf("filter_type = \"Exact\", pattern = \"x\"")),
            "rules.toml:5:6: rule `a`: its id is taken by the rule in line 2",
        ),
    ];
    for (text, message) in cases {
        desk.put("rules.toml", &text);
        let said = desk.etl(&["match", "--rules", "rules.toml"]).ends_with(78);
        assert!(said.stderr.contains(message), "{text}\n{}", said.stderr);
        assert_eq!(said.stdout, "");
    }
    desk.put(
        "rules.toml",
        leaf("filter_type = \"Regex\", pattern = \"^a(b\""),
    );
    let said = desk.etl(&["match", "--rules", "rules.toml"]).ends_with(78);
    assert!(
        said.stderr.ends_with("\n    ^a(b\n      ^\n"),
        "{}",
        said.stderr
    );

    desk.put(
        "rules.json",
        r#"{"rules":[{"id":"a","filters":[{"filter_type":"Regex","pattern":"("}]}]}"#,
    );
    let said = desk
        .etl(&["match", "--rules", "rules.json", "--json"])
        .ends_with(78);
    let report: serde_json::Value = serde_json::from_str(&said.stderr).expect("JSON");
    let problem = &report["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&1.into(), &65.into())
    );
    assert_eq!(
        (&problem["rule"], &problem["position_in_pattern"]),
        (&"a".into(), &0.into())
    );
}

#[test]
fn files_that_cannot_be_read() {
    let desk = Desk::new();
    desk.etl(&["match", "--rules", "rules.toml"])
        .ends_with(1)
        .complains(&["etl: cannot read rules.toml: No such file or directory"]);
    desk.put("rules.toml", TOML);
    desk.etl(&["match", "--rules", "rules.toml", "--topics", "topics"])
        .ends_with(1)
        .complains(&["etl: cannot read topics: No such file or directory"]);
}

#[test]
fn a_topic_that_is_too_long_is_passed_over() {
    let desk = Desk::new();
    desk.put("rules.toml", TOML)
        .put("topics", format!("{}\nweb.error\n", "x".repeat(2_000_000)));
    let said = desk
        .etl(&["match", "--rules", "rules.toml", "--topics", "topics"])
        .ends_with(1)
        .complains(&[
            "topics:1: a topic of 2000000 bytes, over the limit of 1048576",
            "etl: 1 topic could not be read",
        ]);
    assert_eq!(
        said.stdout,
        "{\"topic\":\"web.error\",\"rules\":[\"errors\"]}\n"
    );
}
