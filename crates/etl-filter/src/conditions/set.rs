//! The compiled conditions, and how a group of them is evaluated for a record.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::compare::{Answer, Found, Test};
use super::condition::Condition;
use super::number::Decimal;
use super::path::{Evaluation, Query, Step, Verdict};
use super::reader::{Reader, Spot};
use super::record::RecordView;
use super::scratch::ConditionScratch;

/// A group of conditions: what [`ConditionSetBuilder::add`](super::ConditionSetBuilder::add) was given at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub(super) u32);

impl GroupId {
    /// Its place among all groups, from 0, in the order of adding.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The conditions of many modules, compiled. Immutable, `Send` and `Sync`; what changes lies in the caller's
/// [`ConditionScratch`].
#[derive(Clone)]
pub struct ConditionSet {
    pub(super) id: u64,
    pub(super) groups: Box<[Group]>,
    pub(super) predicates: Box<[Predicate]>,
    pub(super) paths: Box<[Box<[Step]>]>,
    pub(super) readers: Box<[Reader]>,
    pub(super) regexes: usize,
}

/// A line, whatever the size of the set.
impl fmt::Debug for ConditionSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConditionSet")
            .field("groups", &self.groups())
            .field("predicates", &self.predicates())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub terms: Box<[Term]>,
    /// Reads all singular paths of the group.
    pub reader: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub predicate: u32,
    pub negate: bool,
    /// Where in the group it was written.
    pub place: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Predicate {
    pub target: Target,
    pub test: Test,
    pub not_equals: bool,
    /// As it was written, but for `negate`.
    pub condition: Condition,
}

#[derive(Clone, Debug)]
pub(super) enum Target {
    Size,
    Age,
    Header(Box<str>),
    /// A singular path, by number.
    Path(u32),
    Query(Arc<Query>),
}

impl Target {
    pub fn cost(&self) -> u8 {
        match self {
            Target::Size => 0,
            Target::Age => 1,
            Target::Header(_) => 2,
            Target::Path(_) => 3,
            Target::Query(_) => 4,
        }
    }

    pub fn path(&self) -> Option<u32> {
        match self {
            Target::Path(path) => Some(*path),
            _ => None,
        }
    }
}

/// What a predicate came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Answer(Answer),
    Missing,
    NotJson,
    Abandoned,
}

/// Groups whose payload fields are read in one pass: what applies to a record together.
///
/// Made once, where it is decided which groups apply (say, when a topic is first seen), and used for every record.
#[derive(Clone, Debug)]
pub struct Selection {
    set: u64,
    reader: Option<Reader>,
}

impl ConditionSet {
    /// The number of groups.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// The number of different predicates, each evaluated at most once a record however many groups share it.
    #[must_use]
    pub fn predicates(&self) -> usize {
        self.predicates.len()
    }

    /// Groups that are going to be asked about the same records: their paths are then read together. Allocates.
    #[must_use]
    pub fn select(&self, groups: &[GroupId]) -> Selection {
        let mut paths: Vec<u32> = groups
            .iter()
            .filter_map(|group| self.groups.get(group.index()))
            .flat_map(|group| &group.terms)
            .filter_map(|term| self.predicates[term.predicate as usize].target.path())
            .collect();
        paths.sort_unstable();
        paths.dedup();
        let reader = (!paths.is_empty()).then(|| {
            Reader::new(
                paths
                    .into_iter()
                    .map(|path| (path, &*self.paths[path as usize])),
            )
        });
        Selection {
            set: self.id,
            reader,
        }
    }

    /// Whether every condition of a group holds for the record that the scratch was last told to begin: call
    /// [`begin_record`](ConditionScratch::begin_record) before another one, or the answer is about the one before.
    ///
    /// Reads the payload once for all of the group's singular paths, and only if nothing cheaper has decided. A group that
    /// is not of this set does not hold.
    #[inline]
    pub fn evaluate<R: RecordView + ?Sized>(
        &self,
        group: GroupId,
        record: &R,
        scratch: &mut ConditionScratch,
    ) -> bool {
        self.holds(group, None, record, scratch)
    }

    /// The same as [`evaluate`](Self::evaluate), reading the payload once for all groups of the selection.
    #[inline]
    pub fn evaluate_in<R: RecordView + ?Sized>(
        &self,
        selection: &Selection,
        group: GroupId,
        record: &R,
        scratch: &mut ConditionScratch,
    ) -> bool {
        let reader = if selection.set == self.id {
            selection.reader.as_ref()
        } else {
            None
        };
        self.holds(group, reader, record, scratch)
    }

    fn holds<R: RecordView + ?Sized>(
        &self,
        group: GroupId,
        reader: Option<&Reader>,
        record: &R,
        scratch: &mut ConditionScratch,
    ) -> bool {
        let Some(group) = self.groups.get(group.index()) else {
            return false;
        };
        self.attach(scratch);
        group
            .terms
            .iter()
            .all(|term| self.answer(term.predicate, group, reader, record, scratch) != term.negate)
    }

    #[inline]
    pub(super) fn attach(&self, scratch: &mut ConditionScratch) {
        if scratch.set != self.id {
            scratch.attach(self.id, self.predicates.len(), self.paths.len());
        }
        if scratch.caches.set != self.id {
            scratch.caches.fit(self.id, self.regexes);
        }
    }

    /// What a predicate says, remembered for as long as what it looks at stays the same.
    pub(super) fn answer<R: RecordView + ?Sized>(
        &self,
        number: u32,
        group: &Group,
        reader: Option<&Reader>,
        record: &R,
        scratch: &mut ConditionScratch,
    ) -> bool {
        let predicate = &self.predicates[number as usize];
        let epoch = match predicate.target {
            Target::Header(_) => scratch.headers,
            Target::Age => scratch.time,
            Target::Path(_) => scratch.fields,
            Target::Size | Target::Query(_) => scratch.payload,
        };
        let known = scratch.answers[number as usize];
        if known >> 1 == epoch {
            return known & 1 == 1;
        }
        let outcome = self.outcome(predicate, group, reader, record, scratch);
        let counts = &mut scratch.counts;
        counts.evaluated += 1;
        let holds = match outcome {
            Outcome::Answer(Answer::Yes) => !predicate.not_equals,
            Outcome::Answer(Answer::No) => predicate.not_equals,
            absent => {
                *match absent {
                    Outcome::Missing => &mut counts.missing,
                    Outcome::NotJson => &mut counts.not_json,
                    Outcome::Abandoned => &mut counts.abandoned,
                    Outcome::Answer(_) => &mut counts.ill_typed,
                } += 1;
                predicate.not_equals
            }
        };
        scratch.answers[number as usize] = epoch << 1 | u64::from(holds);
        holds
    }

    fn outcome<R: RecordView + ?Sized>(
        &self,
        predicate: &Predicate,
        group: &Group,
        reader: Option<&Reader>,
        record: &R,
        scratch: &mut ConditionScratch,
    ) -> Outcome {
        let mut buffer = [0; 20];
        let found = match &predicate.target {
            Target::Size => {
                let length = i64::try_from(record.length()).unwrap_or(i64::MAX);
                Found::Number(Decimal::from_i64(length, &mut buffer))
            }
            Target::Age => match record.timestamp() {
                Some(timestamp) => Found::Number(Decimal::from_i64(
                    scratch.now.saturating_sub(timestamp),
                    &mut buffer,
                )),
                None => return Outcome::Missing,
            },
            Target::Header(name) => match record.header(name) {
                Some(value) if std::str::from_utf8(value).is_ok() => Found::Untyped(value),
                Some(_) => return Outcome::Answer(Answer::IllTyped),
                None => return Outcome::Missing,
            },
            Target::Path(path) => {
                let payload = record.value();
                match self.read(*path, group, reader, payload, scratch) {
                    Spot::Found {
                        start,
                        end,
                        escaped,
                    } => payload.get(start..end).map_or(Found::Container, |json| {
                        found(json, escaped, &mut scratch.text)
                    }),
                    Spot::NotJson => return Outcome::NotJson,
                    Spot::Missing | Spot::Undecided => return Outcome::Missing,
                }
            }
            Target::Query(query) => {
                return query_outcome(query, predicate, record.value(), scratch);
            }
        };
        Outcome::Answer(predicate.test.answer(found, &mut scratch.caches.list))
    }

    /// Where a path's value lies, read with all paths of the selection, or of the group, unless it is known.
    pub(super) fn read(
        &self,
        path: u32,
        group: &Group,
        selected: Option<&Reader>,
        payload: &[u8],
        scratch: &mut ConditionScratch,
    ) -> Spot {
        if let Some(spot) = scratch.known(path) {
            return spot;
        }
        let own = group.reader.map(|reader| &self.readers[reader as usize]);
        for reader in [selected, own].into_iter().flatten() {
            scratch.counts.payload_passes += 1;
            let epoch = scratch.fields;
            let looked_at = reader.read(payload, epoch, &mut scratch.readings, &mut scratch.desk);
            scratch.looked_at = scratch.looked_at.max(looked_at);
            if let Some(spot) = scratch.known(path) {
                return spot;
            }
        }
        Spot::Undecided
    }
}

/// A JSON value, by its text. A string may be `escaped`; what it stands for is then written into `plain`.
#[inline]
pub(super) fn found<'a>(json: &'a [u8], escaped: bool, plain: &'a mut Vec<u8>) -> Found<'a> {
    match json.first() {
        Some(b'"') => {
            let inside = json.get(1..json.len() - 1).unwrap_or_default();
            if !escaped {
                return Found::Text(inside);
            }
            plain.clear();
            super::lexer::unescape(inside, plain);
            Found::Text(plain)
        }
        Some(b'n') => Found::Null,
        Some(b't') => Found::Bool(true),
        Some(b'f') => Found::Bool(false),
        Some(b'-' | b'0'..=b'9') => Decimal::parse(json).map_or(Found::Container, Found::Number),
        _ => Found::Container,
    }
}

/// A query that may select several nodes holds if any of them satisfies.
fn query_outcome(
    query: &Query,
    predicate: &Predicate,
    payload: &[u8],
    scratch: &mut ConditionScratch,
) -> Outcome {
    if scratch.tape_epoch != scratch.payload {
        scratch.counts.payload_passes += 1;
        scratch.tape_is_json = scratch.tape.read(payload).is_ok();
        scratch.tape_epoch = scratch.payload;
    }
    if !scratch.tape_is_json {
        return Outcome::NotJson;
    }
    let evaluation = Evaluation::new(&scratch.tape, payload);
    let (text, caches) = (&mut scratch.text, &mut scratch.caches.list);
    let mut best = Outcome::Missing;
    let verdict = evaluation.run(query, &mut |node| {
        let json = evaluation.text(node);
        let escaped = json.starts_with(b"\"") && memchr::memchr(b'\\', json).is_some();
        let answer = predicate.test.answer(found(json, escaped, text), caches);
        // For `NotEquals` a node that differs decides, for all others one that satisfies.
        let decides = (answer == Answer::Yes) != predicate.not_equals;
        if decides || best == Outcome::Missing || answer == Answer::No && !predicate.not_equals {
            best = Outcome::Answer(answer);
        }
        if decides {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    if verdict == Verdict::Abandoned {
        Outcome::Abandoned
    } else {
        best
    }
}
