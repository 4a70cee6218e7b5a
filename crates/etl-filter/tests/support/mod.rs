//! Random rules and topics, from a seed: small alphabets full of the characters that patterns and case folding stumble over.
#![allow(dead_code, reason = "each test uses a part")]

pub mod effort;

use etl_filter::{Kind, Rule, RuleSet, TopicFilter};

/// SplitMix64: a seed gives the same rules on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Pieces of topics: letters with cases of every sort (Turkish, German, Greek, Kelvin, combining marks), separators, wildcards.
const PIECES: &[&str] = &[
    "a", "a", "a", "b", "b", "A", "B", ".", ".", ".", "/", "/", "ab", "ba", "k", "K", "\u{212A}",
    "s", "S", "ſ", "ß", "ẞ", "i", "I", "ı", "İ", "σ", "ς", "Σ", "e\u{301}", "é", "É", "$", "1",
    "2", "-", "\n", "日", "𐐀", "𐐨",
];

pub fn text(random: &mut Random, most: usize) -> String {
    let len = random.below(most + 1);
    (0..len).map(|_| random.pick(PIECES)).collect()
}

/// A few words, so that patterns and topics meet, and short strings, so that they overlap.
fn word(random: &mut Random) -> String {
    const WORDS: &[&str] = &[
        "a", "b", "ab", "aa", "orders", "Orders", "ORDERS", "k", "\u{212A}", "eu", "straße",
        "STRASSE", "x1", "",
    ];
    if random.chance(70) {
        random.pick(WORDS).to_owned()
    } else {
        text(random, 3)
    }
}

fn joined(random: &mut Random, separator: &str, wildcards: &[&str], last: &str) -> String {
    let count = 1 + random.below(4);
    let mut tokens: Vec<String> = Vec::new();
    for _ in 0..count {
        tokens.push(if random.chance(35) {
            random.pick(wildcards).to_owned()
        } else {
            word(random)
        });
    }
    if random.chance(25) {
        tokens.push(last.to_owned());
    }
    tokens.join(separator)
}

fn regex(random: &mut Random, depth: usize) -> String {
    const ATOMS: &[&str] = &[
        "a",
        "b",
        "ab",
        "orders",
        "k",
        "s",
        "ß",
        "i",
        "é",
        r"\.",
        "/",
        ".",
        r"\d",
        r"\w",
        "[ab]",
        "[^a]",
        "[a-z]",
        r"\pL",
        "(?-i:k)",
        "(?i:s)",
        r"\b",
        r"\B",
        "^",
        "$",
        "(?m:^)",
        "(?s:.)",
        "σ",
        "(?i:orders)",
        "",
        r"\n",
        "1",
        "[[:alpha:]]",
        "(?-u:[a-k])",
    ];
    const REPEATS: &[&str] = &["*", "+", "?", "{2}", "{0,2}", "*?", "{1,}"];
    let mut out = String::new();
    if random.chance(25) {
        out.push('^');
    }
    if random.chance(15) {
        out.push_str(".*");
    }
    for _ in 0..1 + random.below(4) {
        let atom = if depth > 0 && random.chance(25) {
            format!(
                "({}|{})",
                regex(random, depth - 1),
                regex(random, depth - 1)
            )
        } else {
            random.pick(ATOMS).to_owned()
        };
        if random.chance(20) && !atom.is_empty() {
            out.push_str(&format!("(?:{atom}){}", random.pick(REPEATS)));
        } else {
            out.push_str(&atom);
        }
    }
    if random.chance(15) {
        out.push_str(".*");
    }
    if random.chance(25) {
        out.push('$');
    }
    out
}

pub fn filter(random: &mut Random) -> TopicFilter {
    let kind = random.pick(&Kind::ALL);
    let pattern = match kind {
        Kind::Exact | Kind::Prefix | Kind::Suffix | Kind::Contains => {
            if random.chance(50) {
                word(random)
            } else {
                text(random, 5)
            }
        }
        Kind::Wildcard => {
            let mut out = String::new();
            for _ in 0..1 + random.below(5) {
                let piece = if random.chance(45) {
                    random.pick(&["*", "?", "*", "**", "?*"]).to_owned()
                } else {
                    word(random)
                };
                out.push_str(&piece);
            }
            out
        }
        Kind::Mqtt => joined(random, "/", &["+", "+", ""], "#"),
        Kind::Nats => joined(random, ".", &["*"], ">"),
        _ => regex(random, 2),
    };
    TopicFilter::new(kind, pattern)
        .with_case_sensitive(random.chance(60))
        .with_negate(random.chance(20))
}

/// A filter whose pattern is valid.
pub fn valid_filter(random: &mut Random) -> TopicFilter {
    loop {
        let filter = filter(random);
        let mut builder = RuleSet::builder();
        builder.add(filter.clone());
        if builder.check().is_empty() {
            return filter;
        }
    }
}

pub fn rule(random: &mut Random, depth: usize) -> Rule {
    if depth == 0 || random.chance(40) {
        return valid_filter(random).into();
    }
    match random.below(5) {
        0 => Rule::not(rule(random, depth - 1)),
        composition => {
            let count = random.below(4);
            let rules: Vec<Rule> = (0..count).map(|_| rule(random, depth - 1)).collect();
            if composition < 3 {
                Rule::any(rules)
            } else {
                Rule::all(rules)
            }
        }
    }
}

/// A topic, half of the time one that `near` may match: its wildcards filled in, or a letter changed.
pub fn topic(random: &mut Random, near: &TopicFilter) -> String {
    match random.below(10) {
        0 => String::new(),
        1 => ".".repeat(random.below(4)),
        2 => text(random, 8),
        3 => joined(random, "/", &["a"], "b"),
        4 => joined(random, ".", &["a"], "b"),
        _ => {
            let mut out = String::new();
            for character in near.pattern().chars() {
                match character {
                    '*' | '?' | '+' | '#' | '>' | '(' | ')' | '|' | '^' | '\\' | '[' | ']' => {
                        if random.chance(60) {
                            out.push_str(&word(random));
                        }
                    }
                    _ if random.chance(6) => out.push_str(&text(random, 1)),
                    _ if random.chance(15) => out.extend(character.to_uppercase()),
                    _ if random.chance(15) => out.extend(character.to_lowercase()),
                    _ => out.push(character),
                }
            }
            let around = |random: &mut Random| {
                if random.chance(25) {
                    word(random)
                } else {
                    String::new()
                }
            };
            format!("{}{out}{}", around(random), around(random))
        }
    }
}
