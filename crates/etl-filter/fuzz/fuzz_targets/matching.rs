//! Rules and a topic: the engine and the oracle agree, and a scratch may be dirty.
//!
//! Input: filters (kind, flags, pattern), a topic, and bytes that may not be UTF-8.
#![no_main]

use etl_filter::naive::Oracle;
use etl_filter::{Kind, RuleSet, TopicFilter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<(u8, bool, bool, &str)>, &str, &[u8])| {
    let (filters, topic, bytes) = input;
    let filter = |(kind, case_sensitive, negate, pattern): (u8, bool, bool, &str)| {
        let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
        TopicFilter::new(kind, pattern).with_case_sensitive(case_sensitive).with_negate(negate)
    };
    let valid = |filter: &TopicFilter| {
        let mut builder = RuleSet::builder();
        builder.add(filter.clone());
        builder.check().is_empty()
    };
    let filters: Vec<TopicFilter> = filters.into_iter().take(16).map(filter).filter(valid).collect();
    let mut builder = RuleSet::builder();
    builder.extend(filters.iter().cloned());
    let Ok(rules) = builder.build() else { return };
    let mut scratch = rules.scratch();
    let mut oracle = Oracle::default();
    for topic in [bytes, topic.as_bytes()] {
        let found = rules.matches_bytes(topic, &mut scratch);
        for (index, filter) in filters.iter().enumerate() {
            let expected = oracle.filter_matches_bytes(filter, topic);
            let shown = topic.escape_ascii();
            assert_eq!(found.iter().any(|id| id.index() == index), expected, "{filter} on {shown}");
        }
        for explanation in rules.explain_bytes(topic) {
            assert_eq!(found.contains(&explanation.rule()), explanation.matched(), "{explanation}");
        }
    }
});
