//! A pattern of some kind: reading it never panics, `check` and `build` agree, and what is refused names a byte of the pattern.
//!
//! Input: kind, flags, pattern (UTF-8).
#![no_main]

use etl_filter::{Kind, RuleSet, TopicFilter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, bool, bool, &str)| {
    let (kind, case_sensitive, negate, pattern) = input;
    let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
    let filter = TopicFilter::new(kind, pattern).with_case_sensitive(case_sensitive).with_negate(negate);
    let mut builder = RuleSet::builder();
    let id = builder.add(filter.clone());
    let checked = builder.check();
    match builder.build() {
        Ok(rules) => {
            assert!(checked.is_empty());
            assert_eq!(rules.rule(id), Some(filter.into()));
            rules.matches(pattern, &mut rules.scratch());
        }
        Err(error) => {
            assert!(error.position().is_none_or(|at| at <= pattern.len()));
            assert_eq!(checked, [error]);
        }
    }
});
