//! Topics and patterns chosen to hurt: long, overlapping, empty, of many scripts, not UTF-8; and what the crates that define a kind say.

mod support;

use etl_filter::naive::Oracle;
use etl_filter::{BuildErrorKind, Kind, Limits, Rule, RuleSet, TopicFilter};
use support::Random;

fn set(filters: &[TopicFilter]) -> RuleSet {
    let mut builder = RuleSet::builder();
    builder.extend(filters.iter().cloned());
    builder.build().expect("every pattern is valid")
}

#[test]
fn awkward_topics_agree_with_the_oracle() {
    // Under Miri a few of the patterns, on short topics: an expression alone takes it seconds.
    let (long, stride) = if cfg!(miri) { (24, 6) } else { (64 << 10, 1) };
    let mut topics: Vec<String> = [
        "", ".", "...", "/", "//", "$", "\0", "\n", "İ", "ı", "i", "I", "ß", "ẞ", "ss", "SS",
        "e\u{301}", "é", "É",
    ]
    .iter()
    .map(ToString::to_string)
    .collect();
    topics.extend([
        "a".repeat(long),
        "ab".repeat(long / 2),
        ".".repeat(long),
        "K".repeat(long / 3),
        format!("{}b", "a".repeat(long)),
    ]);
    let mut filters = Vec::new();
    for pattern in [
        "",
        "a",
        "aa",
        "aaaa",
        "aaaaaaaab",
        "ab",
        "ba",
        ".",
        "..",
        "i",
        "I",
        "İ",
        "ı",
        "ß",
        "ẞ",
        "ss",
        "k",
        "\u{212A}",
        "é",
        "e\u{301}",
    ]
    .into_iter()
    .step_by(stride)
    {
        for kind in [
            Kind::Exact,
            Kind::Prefix,
            Kind::Suffix,
            Kind::Contains,
            Kind::Wildcard,
            Kind::Regex,
        ] {
            filters.push(TopicFilter::new(kind, pattern));
            filters.push(TopicFilter::new(kind, pattern).case_insensitive());
        }
    }
    for pattern in ["*a*a*a*a*b", "a*b", "?*?", "*.?", "???", "*aa?b"] {
        filters.push(TopicFilter::new(Kind::Wildcard, pattern));
    }
    for pattern in [
        "(a|aa)+$", "(a*)*b", "a{2,9}b$", r"\.{3}", r"^\PL*$", r"\bß\b",
    ]
    .into_iter()
    .step_by(stride)
    {
        filters.push(TopicFilter::new(Kind::Regex, pattern));
        filters.push(TopicFilter::new(Kind::Regex, pattern).case_insensitive());
    }
    let rules = set(&filters);
    let mut scratch = rules.scratch();
    let mut oracle = Oracle::default();
    for topic in &topics {
        let found = rules.matches(topic, &mut scratch);
        for (index, filter) in filters.iter().enumerate() {
            let expected = oracle.filter_matches(filter, topic);
            let shown: String = topic.chars().take(20).collect();
            assert_eq!(
                found.iter().any(|id| id.index() == index),
                expected,
                "{filter} on {shown:?} of {} bytes",
                topic.len()
            );
        }
    }
}

#[test]
fn bytes_that_are_not_utf8_are_characters_of_their_own() {
    let filters = [
        TopicFilter::new(Kind::Wildcard, "a?b"),
        TopicFilter::new(Kind::Wildcard, "A??B").case_insensitive(),
        TopicFilter::new(Kind::Prefix, "a"),
        TopicFilter::new(Kind::Regex, "^a.b$"),
        TopicFilter::new(Kind::Regex, "b$"),
        TopicFilter::new(Kind::Contains, "é"),
    ];
    let rules = set(&filters);
    let mut scratch = rules.scratch();
    let mut found = |topic: &[u8]| {
        rules
            .matches_bytes(topic, &mut scratch)
            .iter()
            .map(|id| id.index())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(b"a\xFFb"), [0, 2, 4]);
    assert_eq!(found(b"a\xE2\x84b"), [1, 2, 4]);
    assert_eq!(found("aéb".as_bytes()), [0, 2, 3, 4, 5]);
    assert_eq!(found(b"\xF0\xC3\xA9"), [5]);
}

#[test]
fn random_bytes_are_matched_and_explained_as_the_oracle_says() {
    let mut random = Random::new(11);
    let (sets, many) = if cfg!(miri) { (1, 4) } else { (200, 20) };
    for _ in 0..sets {
        let rules: Vec<Rule> = (0..many).map(|_| support::rule(&mut random, 2)).collect();
        let mut builder = RuleSet::builder();
        builder.extend(rules.iter().cloned());
        let set = builder.build().expect("every rule was checked");
        let mut scratch = set.scratch();
        let mut oracle = Oracle::default();
        for _ in 0..many {
            let len = random.below(24);
            let bytes: Vec<u8> = (0..len)
                .map(|_| random.pick(b"ab.\xC3\xA9\xE2\x84\xAA/k\xFF\xC5\xBF"))
                .collect();
            let found = set.matches_bytes(&bytes, &mut scratch);
            for (explanation, rule) in set.explain_bytes(&bytes).iter().zip(&rules) {
                let matched = oracle.matches_bytes(rule, &bytes);
                assert_eq!(
                    found.contains(&explanation.rule()),
                    matched,
                    "{rule} on {:?}",
                    bytes.escape_ascii().to_string()
                );
                assert_eq!(explanation.matched(), matched, "{explanation}");
            }
        }
    }
}

#[test]
fn wildcards_agree_with_the_glob_crate() {
    let mut random = Random::new(3);
    let (mut compared, mut matched) = (0, 0);
    while compared < if cfg!(miri) { 30 } else { 5_000 } {
        // The shared ground: no brackets, no `**`, which the glob crate reads otherwise.
        let pattern: String = (0..random.below(7))
            .map(|_| random.pick(&["a", "b", "*", "?", ".", "é", "/"]))
            .collect();
        if pattern.contains("**") {
            continue;
        }
        let glob = glob::Pattern::new(&pattern).expect("it is valid");
        let rules = set(&[TopicFilter::new(Kind::Wildcard, pattern.as_str())]);
        for _ in 0..10 {
            let topic: String = (0..random.below(7))
                .map(|_| random.pick(&["a", "b", ".", "é", "/"]))
                .collect();
            let found = !rules.matches(&topic, &mut rules.scratch()).is_empty();
            assert_eq!(found, glob.matches(&topic), "{pattern:?} on {topic:?}");
            compared += 1;
            matched += usize::from(found);
        }
    }
    assert!(
        cfg!(miri) || matched * 20 > compared,
        "too few of them match to say much: {matched} of {compared}"
    );
}

/// The shared ground with globset: no brackets, braces, backslashes or `**`, and separators that are not special. It reads bytes and disregards case
/// for ASCII only.
#[test]
fn wildcards_agree_with_globset() {
    let mut random = Random::new(7);
    let (mut compared, mut matched) = (0, 0);
    while compared < if cfg!(miri) { 10 } else { 5_000 } {
        let pattern: String = (0..random.below(6))
            .map(|_| random.pick(&["a", "a", "b", "B", "*", "*", "?", ".", "/"]))
            .collect();
        if pattern.contains("**") {
            continue;
        }
        let case_sensitive = random.chance(60);
        let glob = globset::GlobBuilder::new(&pattern)
            .literal_separator(false)
            .case_insensitive(!case_sensitive)
            .build()
            .expect("it is valid")
            .compile_matcher();
        let filter = TopicFilter::new(Kind::Wildcard, pattern).with_case_sensitive(case_sensitive);
        let rules = set(std::slice::from_ref(&filter));
        for _ in 0..10 {
            let topic: String = (0..random.below(7))
                .map(|_| random.pick(&["a", "a", "b", "A", "B", ".", "/"]))
                .collect();
            let found = !rules.matches(&topic, &mut rules.scratch()).is_empty();
            assert_eq!(found, glob.is_match(&topic), "{filter} on {topic:?}");
            compared += 1;
            matched += usize::from(found);
        }
    }
    assert!(
        cfg!(miri) || matched * 20 > compared,
        "too few of them match to say much: {matched} of {compared}"
    );
}

#[test]
fn expressions_agree_with_the_regex_crate() {
    let mut random = Random::new(5);
    let (mut compared, mut matched) = (0, 0);
    while compared < if cfg!(miri) { 10 } else { 5_000 } {
        let filter = support::valid_filter(&mut random).with_negate(false);
        if filter.kind() != Kind::Regex {
            continue;
        }
        let regex = regex::RegexBuilder::new(filter.pattern())
            .case_insensitive(!filter.is_case_sensitive())
            .build();
        let regex = regex.expect("both read the same syntax");
        let rules = set(std::slice::from_ref(&filter));
        for _ in 0..10 {
            let topic = support::topic(&mut random, &filter);
            let found = !rules.matches(&topic, &mut rules.scratch()).is_empty();
            assert_eq!(found, regex.is_match(&topic), "{filter} on {topic:?}");
            compared += 1;
            matched += usize::from(found);
        }
    }
    assert!(
        cfg!(miri) || matched * 20 > compared,
        "too few of them match to say much: {matched} of {compared}"
    );
}

#[test]
fn many_literals_that_overlap_are_each_reported_once() {
    let most = if cfg!(miri) { 20 } else { 300 };
    let filters: Vec<TopicFilter> = (1..=most)
        .map(|len| TopicFilter::new(Kind::Contains, "a".repeat(len)))
        .collect();
    let rules = set(&filters);
    let mut scratch = rules.scratch();
    assert_eq!(
        rules.matches(&"a".repeat(most * 2), &mut scratch).len(),
        most
    );
    assert_eq!(
        rules.matches(&"a".repeat(most / 2), &mut scratch).len(),
        most / 2
    );
}

#[test]
fn crowds_that_windows_cannot_tell_apart_go_into_an_automaton() {
    let mut builder = RuleSet::builder();
    builder.extend((0..40).map(|len| TopicFilter::new(Kind::Contains, "ab".repeat(8 + len))));
    builder.extend((10..40).map(|n| TopicFilter::new(Kind::Contains, format!("sensor-{n}.x"))));
    let rules = builder.build().expect("every pattern is valid");
    let stats = rules.stats();
    assert_eq!(stats.contains.patterns, 70);
    assert_eq!(stats.contains_in_automaton.patterns, 40);
    let mut scratch = rules.scratch();
    let topic = format!("{}.sensor-11.x", "ab".repeat(9));
    let found = rules.matches(&topic, &mut scratch);
    let found: Vec<usize> = found.iter().map(|id| id.index()).collect();
    assert_eq!(found, [0, 1, 41]);
}

#[test]
fn thousands_of_starts_and_ends_of_all_lengths_are_found() {
    let mut random = Random::new(13);
    let mut word = |least: usize, most: usize| -> String {
        let len = least + random.below(most - least + 1);
        (0..len)
            .map(|_| random.pick(&["a", "b", "c", "d"]))
            .collect()
    };
    let many = if cfg!(miri) { 40 } else { 4_000 };
    // Once with literals shorter than any leap, once without.
    for least in [1, 9] {
        let filters: Vec<TopicFilter> = (0..many)
            .map(|number| {
                let kind = [Kind::Prefix, Kind::Suffix][number % 2];
                TopicFilter::new(kind, word(least, 12))
            })
            .collect();
        let rules = set(&filters);
        let mut scratch = rules.scratch();
        let mut found = 0;
        for number in 0..many / 4 {
            let near = filters[number * 3].pattern();
            let topic = format!("{}{near}{}", word(0, 2), word(0, 2));
            let expected: Vec<usize> = (0..many)
                .filter(|index| {
                    let filter = &filters[*index];
                    if filter.kind() == Kind::Prefix {
                        topic.starts_with(filter.pattern())
                    } else {
                        topic.ends_with(filter.pattern())
                    }
                })
                .collect();
            let ids = rules.matches(&topic, &mut scratch);
            assert!(
                ids.iter().map(|id| id.index()).eq(expected.iter().copied()),
                "{topic}"
            );
            found += ids.len();
        }
        assert!(found > many / 20, "too few are found to say much: {found}");
    }
}

#[test]
fn patterns_of_many_literals_are_found_by_some_of_them() {
    let mut random = Random::new(19);
    let many = if cfg!(miri) { 2 } else { 60 };
    let mut filters = Vec::new();
    let mut topics = Vec::new();
    for number in 0..many {
        let (kind, separator, wildcard) = [
            (Kind::Wildcard, "", "*"),
            (Kind::Wildcard, "", "?"),
            (Kind::Regex, "", "[0-9]+"),
            (Kind::Mqtt, "/", "+"),
            (Kind::Nats, ".", "*"),
        ][number % 5];
        let between = format!("{separator}{wildcard}{separator}");
        let words: Vec<String> = (0..20 + random.below(20))
            .map(|_| {
                let len = 1 + random.below(4);
                (0..len)
                    .map(|_| random.pick(&["a", "b", "C", "é"]))
                    .collect()
            })
            .collect();
        let filter = TopicFilter::new(kind, words.join(&between));
        filters.push(filter.with_case_sensitive(random.chance(50)));
        for changed in [false, true] {
            let mut words = words.clone();
            if changed {
                let place = random.below(words.len());
                words[place] = "ab".to_owned();
            }
            topics.push(words.join(&format!("{separator}7{separator}")));
        }
    }
    let rules = set(&filters);
    let mut scratch = rules.scratch();
    let mut oracle = Oracle::default();
    let mut found = 0;
    for topic in &topics {
        let ids = rules.matches(topic, &mut scratch);
        found += ids.len();
        for (index, filter) in filters.iter().enumerate() {
            let expected = oracle.filter_matches(filter, topic);
            let matched = ids.iter().any(|id| id.index() == index);
            assert_eq!(matched, expected, "{filter} on {topic:?}");
        }
    }
    assert!(found >= filters.len() && found < topics.len(), "{found}");
}

/// What building says of one expression behind a rule that is well.
fn refusal(expression: &str, limits: Limits) -> Option<(BuildErrorKind, usize)> {
    let mut builder = RuleSet::builder();
    builder.limits(limits);
    builder.add(TopicFilter::new(Kind::Exact, "well"));
    builder.add(TopicFilter::new(Kind::Regex, expression));
    let error = builder.build().err()?;
    Some((error.kind(), error.rule().index()))
}

#[test]
fn expressions_that_would_cost_too_much_are_refused_by_name() {
    let too_large = Some((BuildErrorKind::RegexTooLarge, 1));
    let limits = Limits::default();
    assert_eq!(refusal("(a?){500}a{500}b", limits), too_large);
    assert_eq!(refusal("^[a-z0-9-]{1,253}$", limits), None);
    if cfg!(miri) {
        return;
    }
    assert_eq!(refusal(r"^(\w*\d*){300}x", limits), too_large);
    assert_eq!(refusal(&r"\pL".repeat(1_300), limits), too_large);
    assert_eq!(refusal("a{400000}", limits), too_large);
    // What people write stays well within.
    let words: Vec<String> = (0..200).map(|number| format!("tenant-{number}")).collect();
    for expression in [
        r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$".to_owned(),
        r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.v\d{1,3}$".to_owned(),
        format!("({})x", words.join("|")),
        r"[a-z]{1,100}\d{2,60}x".to_owned(),
        format!(r"^({})\.\d+$", words.join("|")),
        r"^\w{1,64}@\w{1,64}(\.\w{2,20}){1,5}$".to_owned(),
    ] {
        assert_eq!(refusal(&expression, limits), None, "{expression}");
    }
}

#[test]
fn classes_count_against_the_memory_of_the_set() {
    // What it takes is memory, and nothing that Miri could see elsewhere.
    if cfg!(miri) {
        return;
    }
    let limits = Limits {
        memory_bytes: 1 << 20,
        ..Limits::default()
    };
    let mut builder = RuleSet::builder();
    builder.limits(limits);
    // Each is a class of its own, of some five kilobytes.
    for letter in 'a'..='z' {
        for other in 'a'..='z' {
            builder.add(TopicFilter::new(
                Kind::Regex,
                format!(r"^x[\pL--{letter}{other}]$"),
            ));
        }
    }
    let error = builder.build().expect_err("this is some megabytes");
    assert_eq!(error.kind(), BuildErrorKind::OutOfMemoryBudget);
    assert!((10..300).contains(&error.rule().index()), "{error}");
    // One class many times is one class.
    let mut builder = RuleSet::builder();
    builder.limits(limits);
    builder.extend(
        (0..600).map(|number| TopicFilter::new(Kind::Regex, format!(r"^x{number}[\pL--a]$"))),
    );
    builder.build().expect("equal classes are shared");
}

#[test]
fn short_expressions_that_say_long_things_are_read_as_what_they_say() {
    // These are literals of 65,541 bytes and of four thousand million.
    if cfg!(miri) {
        return;
    }
    let long = "(?:(?:(?:x{16}){16}){16}){16}x{5}";
    for (pattern, whole) in [(format!("^{long}$"), true), (format!("^{long}"), false)] {
        let rules = set(&[TopicFilter::new(Kind::Regex, pattern)]);
        let mut scratch = rules.scratch();
        let mut found = |len: usize| rules.matches(&"x".repeat(len), &mut scratch).len();
        assert_eq!(
            [found(5), found(6), found(65_540), found(65_541)],
            [0, 0, 0, 1]
        );
        assert_eq!(found(65_542), usize::from(!whole));
    }
    let longer = (0..7).fold("x{16}".to_owned(), |inner, _| format!("(?:{inner}){{16}}"));
    let too_large = Some((BuildErrorKind::RegexTooLarge, 1));
    for pattern in [
        longer.clone(),
        format!("^{longer}$"),
        format!("a{longer}b|c"),
    ] {
        assert_eq!(refusal(&pattern, Limits::default()), too_large, "{pattern}");
    }
}

#[test]
fn a_set_over_its_memory_for_its_automata_names_one_of_their_expressions() {
    if cfg!(miri) {
        return;
    }
    let mut builder = RuleSet::builder();
    builder.limits(Limits {
        memory_bytes: 300_000,
        ..Limits::default()
    });
    let exact = |from: usize| {
        (from..from + 1_000).map(|number| TopicFilter::new(Kind::Exact, number.to_string()))
    };
    builder.extend(exact(0));
    builder.extend((0..300).map(|number| {
        let (first, second) = (number % 20 + 2, number / 20 + 2);
        let expression = format!("[a-m]{{{first}}}[h-z]{{{second}}}[0-9]");
        Rule::any([
            TopicFilter::new(Kind::Exact, format!("x{number}")),
            TopicFilter::new(Kind::Regex, expression),
        ])
    }));
    builder.extend(exact(1_000));
    let error = builder.build().expect_err("this is some megabytes");
    assert_eq!(error.kind(), BuildErrorKind::OutOfMemoryBudget);
    assert!((1_000..1_300).contains(&error.rule().index()), "{error}");
    assert_eq!(error.filter_index(), Some(1), "{error}");
    let filter = error.filter().expect("it is named");
    assert_eq!(filter.kind(), Kind::Regex, "{error}");
}

#[test]
fn literals_that_no_pattern_shows_count_against_the_memory_of_the_set() {
    if cfg!(miri) {
        return;
    }
    let mut builder = RuleSet::builder();
    builder.limits(Limits {
        memory_bytes: 1 << 20,
        ..Limits::default()
    });
    // Each is some thirty bytes that say two thousand.
    builder.extend((100..2_100).map(|number| {
        TopicFilter::new(
            Kind::Regex,
            format!("^(?:(?:(?:x{number}){{9}}){{9}}){{6}}"),
        )
    }));
    let error = builder.build().expect_err("this is four megabytes");
    assert_eq!(error.kind(), BuildErrorKind::OutOfMemoryBudget);
    assert!((200..700).contains(&error.rule().index()), "{error}");
}
