//! Says, condition by condition, what a group made of a record. Made for people: it allocates and remembers nothing.

use std::fmt;
use std::ops::ControlFlow;

use super::condition::Condition;
use super::path::Evaluation;
use super::reader::Spot;
use super::record::RecordView;
use super::scratch::ConditionScratch;
use super::set::{ConditionSet, GroupId, Target};

/// Values longer than this are cut in an explanation, in bytes.
const SHOWN: usize = 120;

/// What a group of conditions made of one record.
///
/// ```
/// use etl_filter::conditions::{Condition, ConditionKind, ConditionSetBuilder, Operator, RecordView};
/// struct Reading(&'static str);
/// impl RecordView for Reading {
///     fn header(&self, _name: &str) -> Option<&[u8]> { None }
///     fn value(&self) -> &[u8] { self.0.as_bytes() }
///     fn length(&self) -> usize { self.0.len() }
///     fn timestamp(&self) -> Option<i64> { None }
/// }
/// let mut builder = ConditionSetBuilder::new();
/// let hot = builder.add(vec![Condition::new(ConditionKind::payload("$.celsius"), Operator::GreaterThan, 90)]);
/// let set = builder.build()?;
/// let explanation = set.explain(hot, &Reading(r#"{"celsius": 71}"#), 0);
/// assert_eq!(explanation.to_string(), "no: $.celsius GreaterThan 90: found 71\n");
/// # Ok::<(), etl_filter::conditions::BuildError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Explanation {
    conditions: Vec<Explained>,
}

/// One condition of an [`Explanation`].
#[derive(Clone, Debug)]
pub struct Explained {
    condition: Condition,
    holds: bool,
    evidence: Evidence,
}

/// What a condition found in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// No such header or field, or no timestamp.
    Missing,
    /// The payload is not JSON, as far as it had to be read.
    NotJson,
    /// The header is not UTF-8.
    NotText,
    /// The query selected more than any sensible payload holds and was given up.
    Abandoned,
    /// This value: a header as it is, a payload field as JSON, size and age as numbers. Cut if long.
    Value(String),
    /// Several values, the first and how many.
    Values {
        /// The first one, as JSON. Cut if long.
        first: String,
        /// How many there are.
        count: usize,
    },
}

impl Explanation {
    /// Whether every condition holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.first_failure().is_none()
    }

    /// The conditions, in the order in which they were written.
    #[must_use]
    pub fn conditions(&self) -> &[Explained] {
        &self.conditions
    }

    /// The first condition that does not hold, in the order in which they were written, and its place.
    #[must_use]
    pub fn first_failure(&self) -> Option<(usize, &Explained)> {
        self.conditions
            .iter()
            .enumerate()
            .find(|(_, explained)| !explained.holds)
    }
}

impl Explained {
    /// The condition.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Whether it holds, its `negate` applied.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds
    }

    /// What it found.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.conditions
            .iter()
            .try_for_each(|explained| writeln!(f, "{explained}"))
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: {}",
            if self.holds { "yes" } else { "no" },
            self.condition,
            self.evidence
        )
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Evidence::Missing => f.write_str("found nothing"),
            Evidence::NotJson => f.write_str("the payload is not JSON"),
            Evidence::NotText => f.write_str("the header is not UTF-8"),
            Evidence::Abandoned => f.write_str("the query selects too much and was given up"),
            Evidence::Value(value) => write!(f, "found {value}"),
            Evidence::Values { first, count } => write!(f, "found {first} and {} more", count - 1),
        }
    }
}

impl ConditionSet {
    /// What each condition of a group makes of a record, and what it found. Every condition is evaluated, the ones behind a
    /// failure too. A group that is not of this set explains nothing.
    #[must_use]
    pub fn explain<R: RecordView + ?Sized>(
        &self,
        group: GroupId,
        record: &R,
        now: i64,
    ) -> Explanation {
        let mut scratch = ConditionScratch::new();
        scratch.begin_record(now);
        self.attach(&mut scratch);
        let Some(group) = self.groups.get(group.index()) else {
            return Explanation {
                conditions: Vec::new(),
            };
        };
        let mut terms = group.terms.to_vec();
        terms.sort_by_key(|term| term.place);
        let conditions = terms
            .iter()
            .map(|term| {
                let predicate = &self.predicates[term.predicate as usize];
                let holds =
                    self.answer(term.predicate, group, None, record, &mut scratch) != term.negate;
                let evidence = match &predicate.target {
                    Target::Size => Evidence::Value(record.length().to_string()),
                    Target::Age => record.timestamp().map_or(Evidence::Missing, |at| {
                        Evidence::Value(now.saturating_sub(at).to_string())
                    }),
                    Target::Header(name) => match record.header(name).map(std::str::from_utf8) {
                        Some(Ok(text)) => Evidence::Value(format!("{:?}", cut(text.as_bytes()))),
                        Some(Err(_)) => Evidence::NotText,
                        None => Evidence::Missing,
                    },
                    Target::Path(path) => {
                        match self.read(*path, group, None, record.value(), &mut scratch) {
                            Spot::Found { start, end, .. } => record
                                .value()
                                .get(start..end)
                                .map_or(Evidence::Missing, |json| Evidence::Value(cut(json))),
                            Spot::NotJson => Evidence::NotJson,
                            Spot::Missing | Spot::Undecided => Evidence::Missing,
                        }
                    }
                    // `answer` has laid the payload out.
                    Target::Query(_) if !scratch.tape_is_json => Evidence::NotJson,
                    Target::Query(query) => {
                        let evaluation = Evaluation::new(&scratch.tape, record.value());
                        let (mut first, mut count) = (None, 0);
                        let verdict = evaluation.run(query, &mut |node| {
                            first.get_or_insert(node);
                            count += 1;
                            ControlFlow::Continue(())
                        });
                        match first.map(|node| cut(evaluation.text(node))) {
                            _ if verdict == super::path::Verdict::Abandoned => Evidence::Abandoned,
                            None => Evidence::Missing,
                            Some(first) if count == 1 => Evidence::Value(first),
                            Some(first) => Evidence::Values { first, count },
                        }
                    }
                };
                Explained {
                    condition: Condition {
                        negate: term.negate,
                        ..predicate.condition.clone()
                    },
                    holds,
                    evidence,
                }
            })
            .collect();
        Explanation { conditions }
    }
}

fn cut(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match text.char_indices().find(|&(at, _)| at >= SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into_owned(),
    }
}
