//! Every kind with every combination of case and negation, from the enum itself: a new kind without a row fails here.

use etl_filter::naive::Oracle;
use etl_filter::{BuildErrorKind, Kind, Limits, Rule, RuleId, RuleSet, TopicFilter};

/// A pattern, a topic that it matches, one that it matches only without regard to case, and one that it never matches.
fn row(kind: Kind) -> [&'static str; 4] {
    match kind {
        Kind::Exact => ["logs.Web", "logs.Web", "LOGS.web", "logs.Web.x"],
        Kind::Prefix => ["logs.W", "logs.Web", "LOGS.web", "x.logs.Web"],
        Kind::Suffix => [".Web", "logs.Web", "LOGS.wEB", "logs.Web.x"],
        Kind::Contains => ["gs.W", "logs.Web", "LOGS.web", "logs-Web"],
        Kind::Wildcard => ["l?gs.*b", "logs.Web", "LOGS.WEB", "lgs.Web"],
        // The letters of Unicode, without regard to case, take Miri more than half an hour.
        Kind::Regex if cfg!(miri) => [r"^l.gs\.W[a-z]+$", "logs.Web", "LOGS.web", "logs.W"],
        Kind::Regex => [r"^l.gs\.W\w+$", "logs.Web", "LOGS.web", "logs.W"],
        Kind::Mqtt => ["logs/+/Web/#", "logs/x/Web", "LOGS/x/web/y", "logs/Web"],
        Kind::Nats => ["logs.*.Web.>", "logs.x.Web.y", "LOGS.x.web.y", "logs.x.Web"],
        kind => panic!("{kind} has no row"),
    }
}

#[test]
fn every_kind_with_every_combination() {
    for kind in Kind::ALL {
        let [pattern, same, other_case, never] = row(kind);
        for case_sensitive in [true, false] {
            for negate in [true, false] {
                let filter = TopicFilter::new(kind, pattern)
                    .with_case_sensitive(case_sensitive)
                    .with_negate(negate);
                let mut builder = RuleSet::builder();
                builder.add(filter.clone());
                builder.add(Rule::not(filter.clone()));
                let rules = builder.build().expect("the table is valid");
                for (topic, matched) in
                    [(same, true), (other_case, !case_sensitive), (never, false)]
                {
                    let expected = RuleId::new(u32::from(matched == negate));
                    assert_eq!(
                        rules.matches(topic, &mut rules.scratch()),
                        [expected],
                        "{filter} on {topic:?}"
                    );
                    assert_eq!(
                        Oracle::default().filter_matches(&filter, topic),
                        matched != negate,
                        "{filter} on {topic:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn names_are_read_back() {
    for kind in Kind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    let unknown = "Glob".parse::<Kind>().expect_err("there is no such kind");
    assert!(unknown.to_string().contains("`Glob`") && unknown.to_string().contains("Wildcard"));
}

#[test]
fn rules_are_read_back() {
    let filter = |pattern: &str| TopicFilter::new(Kind::Contains, pattern);
    let rules = [
        Rule::from(filter("a").case_insensitive()),
        Rule::any([
            Rule::all([filter("b"), filter("c").negated()]),
            Rule::not(filter("d")),
            Rule::everything(),
            Rule::nothing(),
        ]),
        Rule::from(filter("e")),
    ];
    let mut builder = RuleSet::builder();
    for rule in &rules {
        builder.add(rule.clone());
    }
    let set = builder.build().expect("all are valid");
    for (index, rule) in rules.iter().enumerate() {
        assert_eq!(set.rule(RuleId::new(index as u32)).as_ref(), Some(rule));
    }
    assert_eq!(set.rule(RuleId::new(3)), None);
}

#[test]
fn what_is_equal_in_effect_is_taken_as_the_cheaper_kind() {
    let cheap = |kind, pattern: &str| {
        let mut builder = RuleSet::builder();
        builder.add(TopicFilter::new(kind, pattern));
        let stats = builder.build().expect("valid").stats();
        let counts = [
            stats.exact.patterns,
            stats.prefix.patterns,
            stats.suffix.patterns,
            stats.contains.patterns,
        ];
        let checks = stats.wildcard.patterns
            + stats.mqtt.patterns
            + stats.nats.patterns
            + stats.regex.patterns
            + stats.one_by_one;
        (counts, checks)
    };
    assert_eq!(cheap(Kind::Wildcard, "abc"), ([1, 0, 0, 0], 0));
    assert_eq!(cheap(Kind::Wildcard, "abc*"), ([0, 1, 0, 0], 0));
    assert_eq!(cheap(Kind::Wildcard, "*abc"), ([0, 0, 1, 0], 0));
    assert_eq!(cheap(Kind::Wildcard, "**abc*"), ([0, 0, 0, 1], 0));
    assert_eq!(cheap(Kind::Wildcard, "*"), ([0; 4], 0));
    assert_eq!(cheap(Kind::Regex, "^abc$"), ([1, 0, 0, 0], 0));
    assert_eq!(cheap(Kind::Regex, "^abc"), ([0, 1, 0, 0], 0));
    assert_eq!(cheap(Kind::Regex, "abc$"), ([0, 0, 1, 0], 0));
    assert_eq!(cheap(Kind::Regex, ".*error.*"), ([0, 0, 0, 1], 0));
    assert_eq!(
        cheap(Kind::Regex, r"^(events|logs)\.(mobile|web)\."),
        ([0, 4, 0, 0], 0)
    );
    assert_eq!(cheap(Kind::Regex, "x*"), ([0; 4], 0));
    assert_eq!(cheap(Kind::Mqtt, "a/b"), ([1, 0, 0, 0], 0));
    assert_eq!(cheap(Kind::Mqtt, "a/#"), ([1, 1, 0, 0], 0));
    assert_eq!(cheap(Kind::Nats, "a.b"), ([1, 0, 0, 0], 0));
    // What is not equal in effect is not: a dot stops at a line feed.
    assert_eq!(cheap(Kind::Regex, "^abc.*x$").1, 1);
}

#[test]
fn equal_patterns_share() {
    let mut builder = RuleSet::builder();
    let many = if cfg!(miri) { 5 } else { 1_000 };
    for _ in 0..many {
        builder.add(TopicFilter::new(Kind::Prefix, "abc"));
        builder.add(TopicFilter::new(Kind::Wildcard, "abc*"));
        builder.add(TopicFilter::new(Kind::Regex, "^abc"));
    }
    let rules = builder.build().expect("valid");
    assert_eq!(rules.stats().prefix.patterns, 1);
    assert_eq!(rules.matches("abcd", &mut rules.scratch()).len(), 3 * many);
}

#[test]
fn what_is_over_a_limit_is_refused_by_name() {
    let build = |limits: Limits, rules: Vec<Rule>| {
        let mut builder = RuleSet::builder();
        builder.limits(limits);
        builder.extend(rules);
        let checked = builder.check();
        let error = builder.build().expect_err("it is over a limit");
        (error, checked)
    };
    let exact = |pattern: &str| Rule::from(TopicFilter::new(Kind::Exact, pattern));
    let regex = |pattern: &str| Rule::from(TopicFilter::new(Kind::Regex, pattern));

    let (error, checked) = build(
        Limits::default(),
        vec![exact("a"), exact(&"x".repeat(5_000))],
    );
    assert_eq!(
        (error.kind(), error.rule()),
        (BuildErrorKind::PatternTooLong, RuleId::new(1))
    );
    assert_eq!(checked, [error]);

    let (error, checked) = build(
        Limits {
            rules: 2,
            ..Limits::default()
        },
        vec![exact("a"), exact("b"), exact("c"), exact("d")],
    );
    assert_eq!(
        checked,
        std::slice::from_ref(&error),
        "one word for all that are too many"
    );
    assert_eq!(
        (error.kind(), error.rule()),
        (BuildErrorKind::TooManyRules, RuleId::new(2))
    );

    // Miri is at this one expression for most of an hour.
    if !cfg!(miri) {
        let (error, _) = build(
            Limits::default(),
            vec![exact("a"), regex(r"(?:\pL{1000}){1000}")],
        );
        assert_eq!(
            (error.kind(), error.rule(), error.filter_index()),
            (BuildErrorKind::RegexTooLarge, RuleId::new(1), Some(0))
        );
    }

    let (error, _) = build(
        Limits {
            memory_bytes: 100_000,
            ..Limits::default()
        },
        (0..10_000)
            .map(|index| exact(&format!("topic-{index}")))
            .collect(),
    );
    assert_eq!(error.kind(), BuildErrorKind::OutOfMemoryBudget);
    assert!(error.rule().index() > 100, "{error}");

    let deep = (0..40).fold(exact("a"), |rule, _| Rule::not(rule));
    let (error, _) = build(Limits::default(), vec![exact("a"), deep]);
    assert_eq!(
        (error.kind(), error.rule()),
        (BuildErrorKind::NestedTooDeeply, RuleId::new(1))
    );

    // Every problem in one pass, each with its place.
    let mut builder = RuleSet::builder();
    builder.add(Rule::any([
        exact("a"),
        Rule::from(TopicFilter::new(Kind::Mqtt, "a/#/b")),
    ]));
    builder.add(regex("("));
    let problems: Vec<_> = builder
        .check()
        .iter()
        .map(|error| (error.rule().index(), error.filter_index(), error.position()))
        .collect();
    assert_eq!(problems, [(0, Some(1), Some(2)), (1, Some(0), Some(0))]);
    assert_eq!(
        builder.check()[0].to_string(),
        "rule 0, filter 1 (Mqtt \"a/#/b\"), byte 2: `#` must be the last level of an MQTT topic filter"
    );
}

#[test]
fn a_set_shows_itself_in_a_line() {
    let mut builder = etl_filter::RuleSetBuilder::new();
    builder.extend((0..1_000).map(|n| TopicFilter::new(Kind::Prefix, format!("topic-{n}."))));
    let shown = format!("{:?}", builder.build().expect("valid"));
    assert!(
        shown.starts_with("RuleSet { rules: 1000, filters: 1000, memory_bytes: "),
        "{shown}"
    );
    assert!(shown.len() < 100, "{shown}");
}

#[test]
fn a_set_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<RuleSet>();
    shared::<etl_filter::Scratch>();
}

#[test]
fn a_scratch_may_be_used_with_many_sets() {
    let build = |patterns: &[&str]| {
        let mut builder = RuleSet::builder();
        builder.extend(
            patterns
                .iter()
                .map(|pattern| TopicFilter::new(Kind::Contains, *pattern).negated()),
        );
        builder.build().expect("valid")
    };
    let (small, large) = (build(&["a"]), build(&["a", "b", "c", "d"]));
    let mut scratch = small.scratch();
    for _ in 0..3 {
        assert_eq!(small.matches("a", &mut scratch).len(), 0);
        assert_eq!(
            large.matches("ad", &mut scratch),
            [RuleId::new(1), RuleId::new(2)]
        );
    }
}
