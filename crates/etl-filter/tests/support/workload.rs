//! The rules and topics of the benchmarks: 30 % exact, 20 % prefix, 10 % suffix, 10 % contains, 20 % wildcard, 10 % regex of which a
//! tenth without a literal (64 different ones); topics of two to five segments, half of them such that some rule matches.
#![allow(dead_code, reason = "tests and benchmarks use a part each")]

use etl_filter::{Kind, TopicFilter};

/// Rules and topics, the same for the same size and seed.
pub struct Workload {
    pub filters: Vec<TopicFilter>,
    pub topics: Vec<String>,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len())]
    }
}

const WORDS: &[&str] = &[
    "orders",
    "payments",
    "invoices",
    "users",
    "sessions",
    "devices",
    "sensors",
    "alarms",
    "metrics",
    "logs",
    "events",
    "audit",
    "billing",
    "shipping",
    "returns",
    "catalog",
    "search",
    "profile",
    "login",
    "logout",
    "created",
    "updated",
    "deleted",
    "failed",
    "retried",
    "eu",
    "us",
    "ap",
    "mobile",
    "web",
    "api",
    "batch",
    "stream",
    "critical",
    "warning",
    "info",
    "debug",
    "temperature",
    "pressure",
    "humidity",
];

impl Workload {
    pub fn new(rules: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        // As many tenants and devices as make names meet, but not all alike.
        let names = (rules / 20).max(50);
        // A tenth of the expressions has no literal. What one can say without a literal is a shape (a word and a number, say), and many
        // rules say the same: here, 64 different things.
        let shapes: Vec<String> = (0..64).map(|_| without_literal(&mut random)).collect();
        let mut filters = Vec::with_capacity(rules);
        let mut matching = Vec::new();
        for index in 0..rules {
            let tenant = format!("{}-{}", random.word(), random.below(names));
            let (first, second) = (random.word(), random.word());
            let number = random.below(names);
            let (kind, pattern, topic) = match index % 20 {
                0..6 => {
                    let topic = segments(&mut random, &tenant);
                    (Kind::Exact, topic.clone(), topic)
                }
                6..10 => (
                    Kind::Prefix,
                    format!("{tenant}.{first}."),
                    format!("{tenant}.{first}.{second}.{number}"),
                ),
                10..12 => (
                    Kind::Suffix,
                    format!(".{first}.{second}-{number}"),
                    format!("{tenant}.{first}.{second}-{number}"),
                ),
                12..14 => (
                    Kind::Contains,
                    format!("{first}-{number}.{second}"),
                    format!("{tenant}.{first}-{number}.{second}.x"),
                ),
                14 => (
                    Kind::Wildcard,
                    format!("{tenant}.*.{first}"),
                    format!("{tenant}.{second}.{number}.{first}"),
                ),
                15 => (
                    Kind::Wildcard,
                    format!("*.{first}-{number}.?{second}"),
                    format!("{tenant}.{first}-{number}.x{second}"),
                ),
                16 => (
                    Kind::Wildcard,
                    format!("{tenant}.{first}-????.*"),
                    format!("{tenant}.{first}-{:04}.{second}", number % 10_000),
                ),
                17 => (
                    Kind::Wildcard,
                    format!("{first}*{tenant}*{second}"),
                    format!("{first}.{tenant}.{second}"),
                ),
                18 => (
                    Kind::Regex,
                    format!(r"^{tenant}\.({first}|{second})\.\d+$"),
                    format!("{tenant}.{first}.{number}"),
                ),
                _ if random.below(5) == 0 => (
                    Kind::Regex,
                    shapes[random.below(shapes.len())].clone(),
                    format!("{first}.{second}"),
                ),
                _ => (
                    Kind::Regex,
                    format!(r"(^|\.){first}-{number}\.[a-z]+"),
                    format!("{tenant}.{first}-{number}.{second}"),
                ),
            };
            filters.push(TopicFilter::new(kind, pattern));
            if random.below((rules / 20_000).max(1)) == 0 {
                matching.push(topic);
            }
        }
        let topics = (0..20_000)
            .map(|index| {
                if index % 2 == 0 {
                    matching[random.below(matching.len())].clone()
                } else {
                    let tenant = format!("{}-{}", random.word(), random.below(names * 4));
                    segments(&mut random, &tenant)
                }
            })
            .collect();
        Self { filters, topics }
    }
}

impl Workload {
    /// Expressions without a literal, most of them different.
    pub fn of_expressions(count: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let filters = (0..count)
            .map(|_| TopicFilter::new(Kind::Regex, without_literal(&mut random)))
            .collect();
        let topics = Self::new(10_000, seed).topics;
        Self { filters, topics }
    }
}

/// A topic of two to five segments.
fn segments(random: &mut Random, tenant: &str) -> String {
    let mut topic = tenant.to_owned();
    for _ in 0..1 + random.below(4) {
        topic.push('.');
        topic.push_str(random.word());
        if random.below(3) == 0 {
            topic.push_str(&format!("-{}", random.below(100_000)));
        }
    }
    topic
}

/// An expression that requires no text longer than a separator.
fn without_literal(random: &mut Random) -> String {
    const CLASSES: &[&str] = &[
        "[a-z]",
        r"\d",
        r"[0-9a-f]",
        "[A-Z]",
        "[aeiou]",
        "[^.]",
        "[a-m]",
        "[n-z]",
    ];
    let mut out = String::from("^");
    for _ in 0..2 + random.below(3) {
        let class = CLASSES[random.below(CLASSES.len())];
        match random.below(3) {
            0 => out.push_str(&format!("{class}{{{}}}", 2 + random.below(7))),
            1 => out.push_str(&format!("{class}+")),
            _ => out.push_str(&format!("{class}{{1,{}}}", 2 + random.below(4))),
        }
        if random.below(3) == 0 {
            out.push_str(r"\.");
        }
    }
    out.push('$');
    out
}

/// A filter as the text of a regular expression.
pub fn expression(filter: &TopicFilter) -> String {
    let text = regex::escape(filter.pattern());
    match filter.kind() {
        Kind::Exact => format!("^{text}$"),
        Kind::Prefix => format!("^{text}"),
        Kind::Suffix => format!("{text}$"),
        Kind::Contains => text,
        Kind::Wildcard => format!("(?s)^{}$", text.replace(r"\*", ".*").replace(r"\?", ".")),
        _ => filter.pattern().to_owned(),
    }
}

/// A filter as a glob.
pub fn glob(filter: &TopicFilter) -> globset::Glob {
    let pattern = filter.pattern();
    let text = match filter.kind() {
        Kind::Prefix => format!("{pattern}*"),
        Kind::Suffix => format!("*{pattern}"),
        Kind::Contains => format!("*{pattern}*"),
        _ => pattern.to_owned(),
    };
    globset::GlobBuilder::new(&text)
        .literal_separator(false)
        .build()
        .expect("the workload is valid")
}

/// One filter as a careful programmer would ask it by itself.
pub enum Scan {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Contains(Box<memchr::memmem::Finder<'static>>),
    Other(regex::Regex),
}

impl Scan {
    pub fn new(filter: &TopicFilter) -> Self {
        let pattern = filter.pattern().to_owned();
        match filter.kind() {
            Kind::Exact => Self::Exact(pattern),
            Kind::Prefix => Self::Prefix(pattern),
            Kind::Suffix => Self::Suffix(pattern),
            Kind::Contains => {
                Self::Contains(Box::new(memchr::memmem::Finder::new(&pattern).into_owned()))
            }
            _ => {
                Self::Other(regex::Regex::new(&expression(filter)).expect("the workload is valid"))
            }
        }
    }

    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Exact(text) => topic == text,
            Self::Prefix(text) => topic.starts_with(text),
            Self::Suffix(text) => topic.ends_with(text),
            Self::Contains(finder) => finder.find(topic.as_bytes()).is_some(),
            Self::Other(regex) => regex.is_match(topic),
        }
    }
}
