//! MQTT and NATS subscriptions in one set: a client for each, and a message for those whose subscription matches.
//!
//! `cargo run -p etl-filter --example subscriptions`

use etl_filter::{Kind, RuleId, RuleSet, TopicFilter};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let subscriptions = [
        ("thermostat", Kind::Mqtt, "home/+/temperature"),
        ("recorder", Kind::Mqtt, "home/#"),
        ("broker statistics", Kind::Mqtt, "$SYS/#"),
        ("order service", Kind::Nats, "orders.*.created"),
        ("auditor", Kind::Nats, "orders.>"),
    ];
    let mut builder = RuleSet::builder();
    builder.extend(subscriptions.map(|(_, kind, pattern)| TopicFilter::new(kind, pattern)));
    let rules = builder.build()?;

    let mut scratch = rules.scratch();
    for topic in [
        "home/kitchen/temperature",
        "home",
        "$SYS/uptime",
        "orders.eu.created",
        "orders.eu.7.paid",
    ] {
        println!("{topic}");
        for id in rules.matches(topic, &mut scratch) {
            let (client, kind, pattern) = subscriptions[id.index()];
            println!("    {client} ({kind} {pattern})");
        }
    }

    // A client changes its mind: only what changed is built, and the set in use stays as it is until it is exchanged.
    let rules = rules.with_changes([(
        RuleId::new(0),
        TopicFilter::new(Kind::Mqtt, "home/+/humidity"),
    )])?;
    println!("home/kitchen/temperature, after the thermostat changed its subscription");
    println!(
        "    {} client left",
        rules
            .matches("home/kitchen/temperature", &mut scratch)
            .len()
    );

    // A pattern that breaks the rules of its dialect is refused, and the error knows where.
    let mut builder = RuleSet::builder();
    builder.add(TopicFilter::new(Kind::Mqtt, "home/#/temperature"));
    if let Err(error) = builder.build() {
        println!("{error}");
    }
    Ok(())
}
