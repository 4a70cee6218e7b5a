//! A topic router: destinations subscribe with rules of every kind, and each topic goes to those that want it.
//!
//! `cargo run -p etl-filter --example topic_router`

use etl_filter::{Kind, Rule, RuleSet, TopicFilter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let topic = |kind, pattern: &str| TopicFilter::new(kind, pattern);
    let destinations: [(&str, Rule); 5] = [
        ("billing", topic(Kind::Exact, "orders.created").into()),
        ("archive", topic(Kind::Prefix, "orders.").into()),
        (
            "pager",
            Rule::any([
                topic(Kind::Suffix, ".critical"),
                topic(Kind::Regex, r"^sensor-\d+\.alarm$"),
            ]),
        ),
        (
            "search",
            topic(Kind::Contains, "catalog").case_insensitive().into(),
        ),
        // Everything from the logs but what is only for developers.
        (
            "ops",
            Rule::all([
                topic(Kind::Wildcard, "logs.*"),
                topic(Kind::Suffix, ".debug").negated(),
            ]),
        ),
    ];

    let mut builder = RuleSet::builder();
    builder.extend(destinations.iter().map(|(_, rule)| rule.clone()));
    let rules = builder.build()?;

    // One scratch a thread, used for every topic: after the first few, matching allocates nothing.
    let mut scratch = rules.scratch();
    for topic in [
        "orders.created",
        "logs.web.critical",
        "logs.web.debug",
        "Catalog/eu",
        "sensor-7.alarm",
        "nobody.cares",
    ] {
        let names: Vec<&str> = rules
            .matches(topic, &mut scratch)
            .iter()
            .map(|id| destinations[id.index()].0)
            .collect();
        println!(
            "{topic:20} -> {}",
            if names.is_empty() {
                "(nobody)".to_owned()
            } else {
                names.join(", ")
            }
        );
    }

    println!();
    for explanation in rules.explain("logs.web.debug") {
        println!(
            "{}: {explanation}",
            destinations[explanation.rule().index()].0
        );
    }
    Ok(())
}
