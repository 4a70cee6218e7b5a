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
        ("".to_owned(), "rules.toml:1:1: missing field `rules`"),
        (
            "rules = 3".to_owned(),
            "rules.toml:1:9: `rules` is a list, such as [{ id = \"errors\", filters = [{ filter_type = \"Suffix\", pattern = \".error\" }] }]; found a number",
        ),
        (
            rule("filtr = 1"),
            "rules.toml:3:1: rule `a`: unknown field `filtr`, expected one of `id`, `filters`, `filter_logic`, `filter`",
        ),
        (
            "[[rules]]\nfilter = { filter_type = \"Exact\", pattern = \"x\" }".to_owned(),
            "a rule lacks `id`",
        ),
        (
            "[[rules]]\nid = 7".to_owned(),
            "rules.toml:2:6: `id` is a string; found a number",
        ),
        (
            "[[rules]]\nid = \"\"\nfilters = [{ filter_type = \"Exact\", pattern = \"x\" }]"
                .to_owned(),
            "rules.toml:2:6: `id` is empty: give the rule a name",
        ),
        (
            rule("filters = { filter_type = \"Exact\", pattern = \"x\" }"),
            "rules.toml:3:11: rule `a`: `filters` is a list, such as [{ filter_type = \"Suffix\", pattern = \".error\" }]; found a table",
        ),
        (
            leaf("filter_type = \"Exact\", pattern = \"x\", negate = \"no\""),
            "rules.toml:3:61: rule `a`: `negate` is true or false; found a string",
        ),
        (
            rule(""),
            "rules.toml:2:6: rule `a`: it has neither `filters` nor `filter`",
        ),
        (
            rule("filters = []"),
            "rules.toml:3:11: rule `a`: it has no filters: `filters` is an empty list, give it at least one",
        ),
        (
            rule("filter = { any = [] }"),
            "rules.toml:3:18: rule `a`: `any` is an empty list, which no topic would match: give it at least one filter",
        ),
        (
            rule("filter = { not = { all = [] } }"),
            "rules.toml:3:26: rule `a`: `all` is an empty list, which every topic would match: give it at least one filter",
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

/// What a reader of JSON might take for an object with its fields in order is not taken for one.
#[test]
fn lists_are_no_objects() {
    let desk = Desk::new();
    let rule =
        r#"{ "id": "errors", "filters": [{ "filter_type": "Suffix", "pattern": ".error" }] }"#;
    let filter = r#"{ "filter_type": "Suffix", "pattern": ".error" }"#;
    for (text, message) in [
        (
            "[]",
            format!(
                "rules.json:1:1: a rules file is an object, such as {{ \"rules\": [{rule}] }}; found a list\n"
            ),
        ),
        (
            r#"[[["a", [[null, null, null, "Suffix", ".error"]], null, null]]]"#,
            format!(
                "rules.json:1:1: a rules file is an object, such as {{ \"rules\": [{rule}] }}; found a list\n"
            ),
        ),
        (
            r#"{"rules": {"id": "a"}}"#,
            format!("rules.json:1:11: `rules` is a list, such as [{rule}]; found an object\n"),
        ),
        (
            r#"{"rules": [["a", [[null, null, null, "Suffix", ".error", null, null]], null, null]]}"#,
            format!("rules.json:1:12: a rule is an object, such as {rule}; found a list\n"),
        ),
        (
            r#"{"rules": [{"id": "a", "filters": [["Suffix", ".error"]]}]}"#,
            format!(
                "rules.json:1:36: rule `a`: a filter is an object, such as {filter}; found a list\n"
            ),
        ),
        (
            r#"{"rules": [{"id": "a", "filter": {"not": []}}]}"#,
            format!(
                "rules.json:1:42: rule `a`: a filter is an object, such as {filter}; found a list\n"
            ),
        ),
        (
            r#"{"rules": [{"id": "a", "id": "b", "filter": {"all": []}}]}"#,
            "rules.json:1:24: `id` is given twice\n".to_owned(),
        ),
        (
            "{\"rules\": [",
            "rules.json:1:11: EOF while parsing a list\n".to_owned(),
        ),
    ] {
        desk.put("rules.json", text);
        let said = desk.etl(&["match", "--rules", "rules.json"]).ends_with(78);
        assert_eq!(said.stderr, message, "{text}");
    }
    // Fields that are null are not there, as before.
    desk.put(
        "rules.json",
        r#"{"rules": [{"id": "a", "filters": null, "filter": {"any": null, "filter_type": "Exact", "pattern": "t"}}]}"#,
    );
    let said = desk
        .etl_with_input(&["match", "--rules", "rules.json"], b"t\n")
        .ends_with(0);
    assert_eq!(said.stdout, "{\"topic\":\"t\",\"rules\":[\"a\"]}\n");
}

#[test]
fn what_is_shown_of_a_pattern_stays_on_its_line() {
    let desk = Desk::new();
    desk.put(
        "rules.json",
        "\u{feff}{\"rules\": [{\"id\": \"a\\u001b[2J\", \"filters\": [{\"filter_type\": \"Regex\", \"pattern\": \"\\t\\n(\"}]}]}",
    );
    let said = desk.etl(&["match", "--rules", "rules.json"]).ends_with(78);
    assert!(
        said.stderr
            .starts_with("rules.json:1:81: rule `a\\u{1b}[2J`: "),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.ends_with("\n    \\t\\n(\n        ^\n"),
        "{}",
        said.stderr
    );
}

#[test]
fn everything_that_is_wrong_is_told_in_one_round() {
    let desk = Desk::new();
    desk.put(
        "rules.toml",
        r#"
[[rules]]
id = "expression"
filters = [{ filter_type = "Regex", pattern = "a(" }]

[[rules]]
id = "form"
filtr = 1
filters = [
  { filter_type = "Glob", pattern = "x" },
  { filter_type = "Exact" },
  { filter_type = "Exact", pattern = 3 },
]

[[rules]]
id = "good"
filters = [{ filter_type = "Exact", pattern = "x" }]

[[rules]]
id = "level"
filter = { any = [{ all = [] }, { filter_type = "Mqtt", pattern = "a/#/b" }] }

[[rules]]
id = "good"
filters = [{ filter_type = "Nats", pattern = "a..b" }]
"#,
    );
    let said = desk.etl(&["match", "--rules", "rules.toml"]).ends_with(78);
    golden("match/refused.txt", &said.stderr);
    let said = desk
        .etl(&["match", "--rules", "rules.toml", "--json"])
        .ends_with(78);
    let report: serde_json::Value = serde_json::from_str(&said.stderr).expect("JSON");
    let problems = report["problems"].as_array().expect("a list");
    assert_eq!(report["errors"], problems.len());
    let lines: Vec<u64> = problems
        .iter()
        .map(|problem| problem["line"].as_u64().expect("a line"))
        .collect();
    assert_eq!(lines, [4, 8, 10, 11, 12, 21, 21, 24, 25]);
}

#[test]
fn a_rules_file_is_text() {
    let desk = Desk::new();
    desk.put(
        "rules.toml",
        b"[[rules]]\nid = \"\xc3\xa9\xff\"\n".as_slice(),
    );
    desk.etl(&["match", "--rules", "rules.toml"])
        .ends_with(78)
        .complains(&[
            "rules.toml:2:8: the file is not UTF-8 text: the byte 0xFF is no part of a character",
        ]);
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
