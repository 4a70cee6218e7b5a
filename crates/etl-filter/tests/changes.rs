//! A set with changes answers as one that was built with them at once.

mod support;

use etl_filter::{BuildErrorKind, Kind, Rule, RuleId, RuleSet, TopicFilter};
use support::Random;

fn build(rules: &[Rule]) -> RuleSet {
    let mut builder = RuleSet::builder();
    builder.extend(rules.iter().cloned());
    builder.build().expect("every rule was checked")
}

#[test]
fn changes_and_building_anew_agree() {
    let mut random = Random::new(17);
    let many = if cfg!(miri) { 5 } else { 80 };
    let mut rules: Vec<Rule> = (0..many).map(|_| support::rule(&mut random, 2)).collect();
    let mut changed = build(&rules);
    let (mut patched, mut rebuilt) = (false, false);
    for _ in 0..if cfg!(miri) { 2 } else { 10 } {
        let mut changes = Vec::new();
        for _ in 0..1 + random.below(3) {
            let id = random.below(rules.len() + 2);
            let rule = if random.chance(20) {
                Rule::nothing()
            } else {
                support::rule(&mut random, 2)
            };
            rules.resize(rules.len().max(id + 1), Rule::nothing());
            rules[id] = rule.clone();
            changes.push((RuleId::new(id as u32), rule));
        }
        changed = changed
            .with_changes(changes)
            .expect("every rule was checked");
        match changed.stats().changed_rules {
            0 => rebuilt = true,
            _ => patched = true,
        }
        let fresh = build(&rules);
        assert_eq!(changed.len(), rules.len());
        let (mut left, mut right) = (changed.scratch(), fresh.scratch());
        for (index, rule) in rules.iter().enumerate() {
            assert_eq!(changed.rule(RuleId::new(index as u32)).as_ref(), Some(rule));
            if let Some(filter) = rule.filters().first() {
                let topic = support::topic(&mut random, filter);
                assert_eq!(
                    changed.matches(&topic, &mut left),
                    fresh.matches(&topic, &mut right),
                    "{topic:?}"
                );
            }
        }
    }
    assert!(
        cfg!(miri) || (patched && rebuilt),
        "both ways must have been taken"
    );
}

#[test]
fn a_change_that_is_refused_names_the_rule() {
    let rules = build(&vec![TopicFilter::new(Kind::Exact, "a").into(); 100]);
    let error = rules
        .with_changes([(RuleId::new(42), TopicFilter::new(Kind::Regex, "("))])
        .expect_err("it is invalid");
    assert_eq!(
        (error.kind(), error.rule()),
        (BuildErrorKind::InvalidPattern, RuleId::new(42))
    );
    let error = rules
        .with_changes([(RuleId::new(u32::MAX), TopicFilter::new(Kind::Exact, "a"))])
        .expect_err("beyond the limit");
    assert_eq!(error.kind(), BuildErrorKind::TooManyRules);
    assert_eq!(rules.matches("a", &mut rules.scratch()).len(), 100);
}
