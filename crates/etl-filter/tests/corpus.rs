//! The rules of each dialect, case by case: `corpus/*.toml` through the engine, the oracle and the explanation alike.

use etl_filter::naive::Oracle;
use etl_filter::{BuildErrorKind, Kind, RuleId, RuleSet, TopicFilter};
use toml::{Table, Value};

fn texts(case: &Table, name: &str) -> Vec<String> {
    let list = case
        .get(name)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    list.into_iter()
        .map(|text| text.as_str().expect("a topic is a string").to_owned())
        .collect()
}

fn run(kind: Kind, corpus: &str) {
    let corpus: Table = corpus.parse().expect("the corpus is TOML");
    let cases = corpus["case"].as_array().expect("`case` is a list");
    for case in cases.iter().step_by(if cfg!(miri) { 5 } else { 1 }) {
        let case = case.as_table().expect("a case is a table");
        let known = [
            "name",
            "pattern",
            "case_sensitive",
            "matches",
            "differs",
            "invalid_at",
        ];
        assert!(
            case.keys().all(|key| known.contains(&key.as_str())),
            "unknown field in {case:?}"
        );
        let name = case["name"].as_str().expect("a name");
        let pattern = case["pattern"].as_str().expect("a pattern");
        let case_sensitive = case
            .get("case_sensitive")
            .and_then(Value::as_bool)
            .unwrap_or(true);
        let filter = TopicFilter::new(kind, pattern).with_case_sensitive(case_sensitive);
        let mut builder = RuleSet::builder();
        builder.add(filter.clone());
        builder.add(filter.clone().negated());
        match (
            builder.build(),
            case.get("invalid_at").and_then(Value::as_integer),
        ) {
            (Ok(rules), None) => {
                let matching = texts(case, "matches")
                    .into_iter()
                    .map(|topic| (topic, true));
                let other = texts(case, "differs")
                    .into_iter()
                    .map(|topic| (topic, false));
                let mut topics = 0;
                for (topic, expected) in matching.chain(other) {
                    let context = format!("{kind} {name:?}, pattern {pattern:?}, topic {topic:?}");
                    let found = rules.matches(&topic, &mut rules.scratch()).to_vec();
                    assert_eq!(found, [RuleId::new(u32::from(!expected))], "{context}");
                    assert_eq!(
                        Oracle::default().filter_matches(&filter, &topic),
                        expected,
                        "oracle: {context}"
                    );
                    let explanation = rules
                        .explain_rule(RuleId::new(0), &topic)
                        .expect("it has two rules");
                    assert_eq!(explanation.matched(), expected, "explanation: {context}");
                    topics += 1;
                }
                assert!(topics > 0, "{name:?} asks nothing");
            }
            (Err(error), Some(at)) => {
                assert_eq!(error.kind(), BuildErrorKind::InvalidPattern, "{name:?}");
                assert_eq!(
                    error.position(),
                    usize::try_from(at).ok(),
                    "{name:?}: {error}"
                );
                assert_eq!(
                    (error.rule(), error.filter_index()),
                    (RuleId::new(0), Some(0)),
                    "{name:?}"
                );
            }
            (Ok(_), Some(_)) => panic!("{name:?}: {pattern:?} should be refused"),
            (Err(error), None) => panic!("{name:?}: {error}"),
        }
    }
}

#[test]
fn mqtt_follows_section_4_7() {
    run(Kind::Mqtt, include_str!("corpus/mqtt.toml"));
}

#[test]
fn nats_follows_its_documentation() {
    run(Kind::Nats, include_str!("corpus/nats.toml"));
}

#[test]
fn wildcards_mean_what_the_requirements_say() {
    run(Kind::Wildcard, include_str!("corpus/wildcard.toml"));
}

#[test]
fn expressions_mean_what_the_regex_crate_says() {
    run(Kind::Regex, include_str!("corpus/regex.toml"));
}
