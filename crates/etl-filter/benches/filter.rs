//! What a lookup costs, against the number of rules: one JSON record a line.
//!
//! `cargo bench -p etl-filter --bench filter -- [RULES …] [--parts] [--beside] [--worst]` (10,000, 100,000 and 1,000,000 if none are given). With
//! `--parts` the parts of the index by themselves, literals inside topics by an automaton and by windows; with `--beside` these, a linear scan, globset, and
//! a regex set; with `--worst` only what costs most.

#[path = "../tests/support/workload.rs"]
mod workload;

use std::hint::black_box;
use std::time::Instant;

use etl_filter::{Kind, RuleId, RuleSet, TopicFilter};
use workload::Workload;

/// Nanoseconds a topic: topics in small parts, each several times, of which the quickest counts. What else runs on the machine only
/// ever adds. Between two passes over a part all other parts run, so that the caches hold what they would.
fn measure(topics: &[String], mut run: impl FnMut(&str) -> usize) -> (f64, usize) {
    const PART: usize = 500;
    let mut best = vec![f64::INFINITY; topics.len().div_ceil(PART)];
    let mut found = 0;
    for _ in 0..7 {
        found = 0;
        for (part, best) in topics.chunks(PART).zip(&mut best) {
            let start = Instant::now();
            found += part
                .iter()
                .map(|topic| run(black_box(topic)))
                .sum::<usize>();
            *best = best.min(start.elapsed().as_nanos() as f64);
        }
    }
    (best.iter().sum::<f64>() / topics.len() as f64, found)
}

/// Processor time of this process so far, all threads together; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    // The 14th and 15th fields, in hundredths of a second.
    fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}

fn print(scenario: &str, rules: usize, record: &[(&str, f64)]) {
    let fields: String = record
        .iter()
        .map(|(name, value)| format!(",\"{name}\":{value:.3}"))
        .collect();
    println!("{{\"scenario\":\"{scenario}\",\"rules\":{rules}{fields}}}");
}

fn main() {
    let mut sizes: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|text| text.replace('_', "").parse().ok())
        .collect();
    let [beside, parts] =
        ["--beside", "--parts"].map(|option| std::env::args().any(|argument| argument == option));
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000, 1_000_000];
    }
    if std::env::args().any(|argument| argument == "--worst") {
        worst();
        return;
    }
    for rules in sizes {
        let workload = Workload::new(rules, 42);
        filter_uncached(&workload);
        if beside || parts {
            alternatives(&workload, beside);
        }
    }
}

/// Patterns that cost about as much as they may, and what their topics consist of: as many steps a character as are allowed, with plain characters, with
/// large classes, with assertions; the longest piece between two stars.
fn heaviest() -> [(&'static str, Kind, String, &'static str); 4] {
    let assertions = r"\b\B\b{start}\b{end}\b{start-half}\b{end-half}";
    [
        ("plain", Kind::Regex, "(a?){95}a{190}b".to_owned(), "a"),
        ("classes", Kind::Regex, r"\w{370}b".to_owned(), "é"),
        (
            "assertions",
            Kind::Regex,
            format!("((?:{assertions})?a?){{30}}b"),
            "a",
        ),
        (
            "wildcard",
            Kind::Wildcard,
            format!("*{}b*b", "a?".repeat(2_000)),
            "a",
        ),
    ]
}

/// Nanoseconds that this process was on a processor; by the clock where the system does not say. A search of a tenth of a second is interrupted on a
/// busy machine, and what others take in between is not its cost.
fn on_processor() -> f64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = START.get_or_init(Instant::now);
    std::fs::read_to_string("/proc/self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| start.elapsed().as_nanos() as f64)
}

/// Literals that share their windows with as many others as may, of every length of windows.
fn crowd() -> RuleSet {
    let mut builder = RuleSet::builder();
    for len in [1_usize, 2, 3, 6, 12] {
        builder.extend((0..1_u32 << len).map(|bits| {
            let letters = (0..len).map(|at| if bits >> at & 1 == 0 { 'a' } else { 'b' });
            TopicFilter::new(Kind::Contains, letters.collect::<String>())
        }));
    }
    builder.build().unwrap_or_else(|error| panic!("{error}"))
}

/// Times the search of one topic.
fn search(name: &str, set: &RuleSet, topic: &str, scratch: &mut etl_filter::Scratch) {
    let (start, mut count) = (on_processor(), 0.0);
    // The system counts in milliseconds, so this takes some hundred of them.
    while on_processor() - start < 4e8 {
        black_box(set.matches(black_box(topic), scratch).len());
        count += 1.0;
    }
    let nanoseconds = (on_processor() - start) / count;
    let bytes = topic.len();
    print(
        &format!("worst_{name}"),
        bytes,
        &[
            ("ns", nanoseconds),
            ("ns_a_byte", nanoseconds / bytes as f64),
        ],
    );
}

/// What costs most: single patterns on the longest topics; and very many different expressions without a literal.
fn worst() {
    for (name, kind, pattern, unit) in heaviest() {
        let mut builder = RuleSet::builder();
        builder.add(TopicFilter::new(kind, pattern));
        let set = builder.build().unwrap_or_else(|error| panic!("{error}"));
        let mut scratch = set.scratch();
        for bytes in [256, 64 << 10] {
            let topic = format!("{}cb", unit.repeat(bytes / unit.len()));
            search(name, &set, &topic, &mut scratch);
        }
    }
    let set = crowd();
    let mut scratch = set.scratch();
    for bytes in [256, 64 << 10] {
        let letters = (0..bytes).map(|at: usize| {
            let mixed = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            if (mixed ^ mixed >> 31).count_ones().is_multiple_of(2) {
                'a'
            } else {
                'b'
            }
        });
        search("literals", &set, &letters.collect::<String>(), &mut scratch);
    }
    for count in [50, 100, 1_000, 10_000] {
        let workload = Workload::of_expressions(count, 42);
        let mut builder = RuleSet::builder();
        builder.extend(workload.filters.iter().cloned());
        let start = Instant::now();
        let set = builder.build().expect("they keep the limits");
        let build = start.elapsed().as_secs_f64();
        let mut scratch = set.scratch();
        let few = &workload.topics[..2_000];
        let (nanoseconds, _) = measure(few, |topic| set.matches(topic, &mut scratch).len());
        let stats = set.stats();
        print(
            "expressions_without_a_literal",
            count,
            &[
                (
                    "different",
                    (stats.automata.patterns + stats.one_by_one) as f64,
                ),
                ("ns_per_topic", nanoseconds),
                ("automata", stats.automata_count as f64),
                ("one_by_one", stats.one_by_one as f64),
                ("automata_bytes", stats.automata.bytes as f64),
                ("build_seconds", build),
            ],
        );
    }
}

fn filter_uncached(workload: &Workload) {
    let rules = workload.filters.len();
    let mut builder = RuleSet::builder();
    for filter in &workload.filters {
        builder.add(filter.clone());
    }
    let (start, cpu) = (Instant::now(), cpu_seconds());
    let set = builder.build().expect("the workload is valid");
    let (build_seconds, build_cpu_seconds) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    drop(builder);
    let mut scratch = set.scratch();
    let (nanoseconds, found) = measure(&workload.topics, |topic| {
        set.matches(topic, &mut scratch).len()
    });
    let checked: usize = workload
        .topics
        .iter()
        .map(|topic| {
            set.matches(topic, &mut scratch);
            scratch.checked()
        })
        .sum();
    let topics = workload.topics.len() as f64;
    let hits = workload
        .topics
        .iter()
        .filter(|topic| !set.matches(topic, &mut scratch).is_empty())
        .count() as f64;
    let stats = set.stats();
    print(
        "filter_uncached",
        rules,
        &[
            ("ns_per_topic", nanoseconds),
            (
                "bytes_per_rule",
                (stats.memory_bytes - stats.pattern_bytes) as f64 / rules as f64,
            ),
            (
                "pattern_bytes_per_rule",
                stats.pattern_bytes as f64 / rules as f64,
            ),
            ("build_seconds", build_seconds),
            ("build_cpu_seconds", build_cpu_seconds),
            ("rules_per_topic", found as f64 / topics),
            ("checked_per_topic", checked as f64 / topics),
            ("topics_with_a_rule", hits / topics),
        ],
    );
    eprintln!("{stats:#?}");

    // A hundred rules changed, and the set with these changes asked.
    let changes: Vec<_> = (0..100_u32)
        .map(|id| {
            (
                RuleId::new(id * 7 % rules as u32),
                workload.filters[id as usize * 3 % rules].clone(),
            )
        })
        .collect();
    let start = Instant::now();
    let changed = set.with_changes(changes).expect("the workload is valid");
    let change_seconds = start.elapsed().as_secs_f64();
    let mut scratch = changed.scratch();
    let (nanoseconds, _) = measure(&workload.topics, |topic| {
        changed.matches(topic, &mut scratch).len()
    });
    print(
        "filter_change_100",
        rules,
        &[
            ("change_seconds", change_seconds),
            ("ns_per_topic", nanoseconds),
        ],
    );
}

/// What else could be done with the same rules, or with those of one kind.
fn alternatives(workload: &Workload, beside: bool) {
    // The parts of the index alone; literals inside topics by an automaton and by windows, whatever the planner would take.
    only(workload, "exact", &[Kind::Exact], None);
    only(workload, "prefixes", &[Kind::Prefix], None);
    only(workload, "suffixes", &[Kind::Suffix], None);
    only(workload, "regex", &[Kind::Regex], None);
    for (name, kinds) in [
        ("contains", &[Kind::Contains][..]),
        ("contains_and_guards", &[Kind::Contains, Kind::Wildcard]),
        ("all", &Kind::ALL),
    ] {
        only(workload, &format!("{name}_by_automaton"), kinds, Some(0));
        let by_windows = format!("{name}_by_windows");
        only(workload, &by_windows, kinds, Some(usize::MAX));
    }

    let rules = workload.filters.len();
    let topics = &workload.topics;
    if !beside {
        return;
    }
    if rules <= 100_000 {
        let few = &topics[..topics.len().min(20_000_000 / rules)];
        let scan: Vec<_> = workload.filters.iter().map(workload::Scan::new).collect();
        let (nanoseconds, _) = measure(few, |topic| {
            scan.iter().filter(|scan| scan.matches(topic)).count()
        });
        print("linear_scan", rules, &[("ns_per_topic", nanoseconds)]);
    }
    if rules <= 1_000 {
        let start = Instant::now();
        let mut builder = globset::GlobSetBuilder::new();
        for filter in workload
            .filters
            .iter()
            .filter(|filter| filter.kind() != Kind::Regex)
        {
            builder.add(workload::glob(filter));
        }
        let set = builder.build().expect("it fits");
        let build = start.elapsed().as_secs_f64();
        let (nanoseconds, _) = measure(topics, |topic| set.matches(topic).len());
        print(
            "globset_without_regexes",
            rules,
            &[("ns_per_topic", nanoseconds), ("build_seconds", build)],
        );
    }
    if rules <= 1_000 {
        let start = Instant::now();
        let all = workload.filters.iter().map(workload::expression);
        let set = regex::RegexSetBuilder::new(all)
            .size_limit(1 << 30)
            .dfa_size_limit(1 << 28)
            .build();
        let build = start.elapsed().as_secs_f64();
        if let Ok(set) = set {
            let few = &topics[..topics.len().min(1_000)];
            let (nanoseconds, _) = measure(few, |topic| set.matches(topic).iter().count());
            print(
                "regex_set",
                rules,
                &[("ns_per_topic", nanoseconds), ("build_seconds", build)],
            );
        }
    }
}

/// The index with the rules of some kinds alone.
fn only(workload: &Workload, scenario: &str, kinds: &[Kind], crowd: Option<usize>) {
    let mut builder = RuleSet::builder();
    if let Some(literals) = crowd {
        builder.crowd(literals);
    }
    for filter in workload
        .filters
        .iter()
        .filter(|filter| kinds.contains(&filter.kind()))
    {
        builder.add(filter.clone());
    }
    let start = Instant::now();
    let set = builder.build().expect("the workload is valid");
    let build = start.elapsed().as_secs_f64();
    let mut scratch = set.scratch();
    let (nanoseconds, _) = measure(&workload.topics, |topic| {
        set.matches(topic, &mut scratch).len()
    });
    let stats = set.stats();
    let bytes = (stats.memory_bytes - stats.pattern_bytes) as f64 / set.len() as f64;
    print(
        scenario,
        workload.filters.len(),
        &[
            ("ns_per_topic", nanoseconds),
            ("bytes_per_rule", bytes),
            ("build_seconds", build),
        ],
    );
}
