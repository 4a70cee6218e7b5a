//! Runs a query over a [`Tape`], handing each node to the caller as it is found.
//!
//! Nothing is collected: a caller that has seen enough stops the walk. Some queries (`$..*..*`) select more nodes than any
//! payload has values, and a filter may compare everything with everything, so each evaluation has a budget of steps; a query that runs
//! out of it is abandoned. Whatever can be long pays for its length: what did not would be a way around the budget.
//!
//! Of members with one name, a name selects the first, as the one-pass reader does; `*` and `..` see them all.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::tape::Tape;
use super::{Comparable, Comparison, FilterQuery, Logical, Pattern, Query, Segment, Selector};
use crate::conditions::lexer::unescape;
use crate::conditions::number::Decimal;
use crate::conditions::regex;

/// Steps of one evaluation before it is abandoned: some tens of milliseconds. A step is a node that is visited or passed over, a selector or a
/// part of a filter that is tried, or so many bytes of text that a filter looks at:
const MAX_STEPS: u64 = 4_000_000;
const BYTES_A_STEP: usize = 16;
/// What compiling a pattern that the payload brought costs.
const REGEX_STEPS: u64 = 50_000;

/// How an evaluation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::conditions) enum Verdict {
    /// Every node has been seen.
    Complete,
    /// The caller had seen enough.
    Stopped,
    /// The budget ran out.
    Abandoned,
}

pub(in crate::conditions) struct Evaluation<'a> {
    tape: &'a Tape,
    payload: &'a [u8],
    steps: Cell<u64>,
}

/// What a comparable is for the node at hand.
enum Resolved<'a> {
    Nothing,
    Null,
    Bool(bool),
    Number(Decimal<'a>),
    Count(usize),
    Text(Cow<'a, [u8]>),
    /// An array or object.
    Container(usize),
}

type Flow = ControlFlow<()>;

impl<'a> Evaluation<'a> {
    /// `tape` must have been read from `payload`.
    pub fn new(tape: &'a Tape, payload: &'a [u8]) -> Self {
        Evaluation {
            tape,
            payload,
            steps: Cell::new(MAX_STEPS),
        }
    }

    /// Hands every node of the query to `visit`, by its entry on the tape, until that breaks.
    pub fn run(&self, query: &Query, visit: &mut dyn FnMut(usize) -> Flow) -> Verdict {
        match self.walk(&query.segments, 0, visit) {
            _ if self.steps.get() == 0 => Verdict::Abandoned,
            Flow::Break(()) => Verdict::Stopped,
            Flow::Continue(()) => Verdict::Complete,
        }
    }

    /// The text of a node's value.
    pub fn text(&self, node: usize) -> &'a [u8] {
        let entry = &self.tape.entries[node];
        &self.payload[entry.start..entry.end]
    }

    fn spend(&self, steps: u64) -> Flow {
        let left = self.steps.get().saturating_sub(steps);
        self.steps.set(left);
        if left == 0 {
            Flow::Break(())
        } else {
            Flow::Continue(())
        }
    }

    /// Pays for text. Whoever visits the next node, or tries the next part of a filter, sees that nothing is left.
    fn spend_text(&self, bytes: usize) {
        let _left = self.spend((bytes / BYTES_A_STEP) as u64);
    }

    fn walk(
        &self,
        segments: &[Segment],
        node: usize,
        visit: &mut dyn FnMut(usize) -> Flow,
    ) -> Flow {
        let Some((segment, rest)) = segments.split_first() else {
            return visit(node);
        };
        match segment {
            Segment::Child(selectors) => self.select(selectors, rest, node, visit),
            Segment::Descendant(selectors) => {
                for descendant in node..self.tape.entries[node].next {
                    self.spend(1)?;
                    self.select(selectors, rest, descendant, visit)?;
                }
                Flow::Continue(())
            }
        }
    }

    fn select(
        &self,
        selectors: &[Selector],
        rest: &[Segment],
        node: usize,
        visit: &mut dyn FnMut(usize) -> Flow,
    ) -> Flow {
        let entry = &self.tape.entries[node];
        let kind = self.payload[entry.start];
        if entry.children == 0 {
            return Flow::Continue(());
        }
        for selector in selectors {
            self.spend(1)?;
            match selector {
                Selector::Name(name) if kind == b'{' => {
                    for child in self.tape.children(node) {
                        self.spend(1)?;
                        if self.is_named(child, name.as_bytes()) {
                            self.walk(rest, child, visit)?;
                            break;
                        }
                    }
                }
                Selector::Wildcard => {
                    for child in self.tape.children(node) {
                        self.spend(1)?;
                        self.walk(rest, child, visit)?;
                    }
                }
                Selector::Index(index) if kind == b'[' => {
                    let length = entry.children as i64;
                    let place = if *index < 0 { length + index } else { *index };
                    if (0..length).contains(&place) {
                        self.spend(place as u64 + 1)?;
                        if let Some(child) = self.tape.children(node).nth(place as usize) {
                            self.walk(rest, child, visit)?;
                        }
                    }
                }
                Selector::Slice { start, end, step } if kind == b'[' => {
                    self.slice(*start, *end, *step, rest, node, visit)?;
                }
                Selector::Filter(filter) => {
                    for child in self.tape.children(node) {
                        self.spend(1)?;
                        if self.holds(filter, child) {
                            self.walk(rest, child, visit)?;
                        }
                        // A budget spent inside the filter is seen here.
                        self.spend(0)?;
                    }
                }
                _ => {}
            }
        }
        Flow::Continue(())
    }

    fn slice(
        &self,
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
        rest: &[Segment],
        node: usize,
        visit: &mut dyn FnMut(usize) -> Flow,
    ) -> Flow {
        let length = self.tape.entries[node].children as i64;
        let place = |index: i64| if index < 0 { length + index } else { index };
        if step > 0 {
            let from = place(start.unwrap_or(0)).clamp(0, length);
            let to = place(end.unwrap_or(length)).clamp(0, length);
            self.spend(from as u64 + 1)?;
            let count = (to - from).max(0) as usize;
            let step = usize::try_from(step).unwrap_or(usize::MAX);
            for child in self
                .tape
                .children(node)
                .skip(from as usize)
                .take(count)
                .step_by(step)
            {
                // What lies between two elements is passed over one by one.
                self.spend(step.min(count) as u64)?;
                self.walk(rest, child, visit)?;
            }
        } else if step < 0 {
            let from = place(start.unwrap_or(length - 1)).clamp(-1, length - 1);
            let to = end.map_or(-1, place).clamp(-1, length - 1);
            // Backwards there is nothing to hop by: the elements are listed first.
            self.spend(length as u64 + 1)?;
            let children: Vec<usize> = self.tape.children(node).collect();
            let mut at = from;
            while at > to {
                self.spend(1)?;
                self.walk(rest, children[at as usize], visit)?;
                at = at.saturating_add(step);
            }
        }
        Flow::Continue(())
    }

    fn is_named(&self, child: usize, name: &[u8]) -> bool {
        let Some(found) = self.tape.entries[child].name else {
            return false;
        };
        let raw = &self.payload[found.start..found.end];
        if !found.escaped {
            return raw == name;
        }
        // An escape is longer than what it stands for, six times at most: a name of another length is not even read.
        if raw.len() < name.len() || raw.len() / 6 > name.len() {
            return false;
        }
        *self.plain(raw) == *name
    }

    /// The text that the inside of a string stands for.
    fn plain<'t>(&self, raw: &'t [u8]) -> Cow<'t, [u8]> {
        if memchr::memchr(b'\\', raw).is_none() {
            return Cow::Borrowed(raw);
        }
        // Reading escapes takes several times as long as comparing does.
        self.spend_text(4 * raw.len());
        let mut text = Vec::with_capacity(raw.len());
        unescape(raw, &mut text);
        Cow::Owned(text)
    }

    fn holds(&self, logical: &Logical, node: usize) -> bool {
        if self.spend(1).is_break() {
            return false;
        }
        match logical {
            Logical::Or(terms) => terms.iter().any(|term| self.holds(term, node)),
            Logical::And(terms) => terms.iter().all(|term| self.holds(term, node)),
            Logical::Not(term) => !self.holds(term, node),
            Logical::Exists(query) => self.first(query, node).is_some(),
            Logical::Compare(left, comparison, right) => {
                let (left, right) = (self.resolve(left, node), self.resolve(right, node));
                match comparison {
                    Comparison::Equal => self.equal(&left, &right),
                    Comparison::NotEqual => !self.equal(&left, &right),
                    Comparison::Less => order(&left, &right) == Some(Ordering::Less),
                    Comparison::Greater => order(&left, &right) == Some(Ordering::Greater),
                    Comparison::LessOrEqual => {
                        order(&left, &right) == Some(Ordering::Less) || self.equal(&left, &right)
                    }
                    Comparison::GreaterOrEqual => {
                        order(&left, &right) == Some(Ordering::Greater) || self.equal(&left, &right)
                    }
                }
            }
            Logical::Regex {
                whole,
                text,
                pattern,
            } => {
                let Resolved::Text(text) = self.resolve(text, node) else {
                    return false;
                };
                match pattern {
                    Pattern::Fixed(regex) => {
                        regex.as_ref().is_some_and(|regex| regex.is_match(&*text))
                    }
                    Pattern::Found(pattern) => {
                        let Resolved::Text(pattern) = self.resolve(pattern, node) else {
                            return false;
                        };
                        if self.spend(REGEX_STEPS).is_break() {
                            return false;
                        }
                        let pattern = String::from_utf8_lossy(&pattern);
                        regex::compile_found(&pattern, *whole)
                            .is_some_and(|regex| regex.is_match(&*text))
                    }
                }
            }
        }
    }

    fn nodes(
        &self,
        query: &FilterQuery,
        node: usize,
        visit: &mut dyn FnMut(usize) -> Flow,
    ) -> Flow {
        self.spend(1)?;
        self.walk(
            &query.query.segments,
            if query.absolute { 0 } else { node },
            visit,
        )
    }

    fn first(&self, query: &FilterQuery, node: usize) -> Option<usize> {
        let mut found = None;
        let _stopped = self.nodes(query, node, &mut |node| {
            found = Some(node);
            Flow::Break(())
        });
        found
    }

    fn resolve<'q>(&'q self, comparable: &'q Comparable, node: usize) -> Resolved<'q> {
        // A number is not compared in no time either.
        let _left = self.spend(1);
        match comparable {
            Comparable::Null => Resolved::Null,
            Comparable::Bool(value) => Resolved::Bool(*value),
            Comparable::Number(number) => Resolved::Number(number.as_decimal()),
            Comparable::String(text) => {
                self.spend_text(text.len());
                Resolved::Text(Cow::Borrowed(text.as_bytes()))
            }
            Comparable::Node(query) => self
                .first(query, node)
                .map_or(Resolved::Nothing, |node| self.value(node)),
            Comparable::Length(of) => match self.resolve(of, node) {
                Resolved::Text(text) => {
                    Resolved::Count(text.iter().filter(|&&byte| byte & 0xC0 != 0x80).count())
                }
                Resolved::Container(node) => Resolved::Count(self.tape.entries[node].children),
                _ => Resolved::Nothing,
            },
            Comparable::Count(query) => {
                let mut count = 0;
                let _end = self.nodes(query, node, &mut |_| {
                    count += 1;
                    Flow::Continue(())
                });
                Resolved::Count(count)
            }
            Comparable::Value(query) => {
                let mut only = None;
                let mut count = 0;
                let _end = self.nodes(query, node, &mut |node| {
                    only = Some(node);
                    count += 1;
                    if count > 1 {
                        Flow::Break(())
                    } else {
                        Flow::Continue(())
                    }
                });
                match only {
                    Some(node) if count == 1 => self.value(node),
                    _ => Resolved::Nothing,
                }
            }
        }
    }

    fn value(&self, node: usize) -> Resolved<'a> {
        let text = self.text(node);
        match text.first() {
            Some(b'n') => Resolved::Null,
            Some(b't') => Resolved::Bool(true),
            Some(b'f') => Resolved::Bool(false),
            Some(b'{' | b'[') => Resolved::Container(node),
            first => {
                self.spend_text(text.len());
                if first == Some(&b'"') {
                    Resolved::Text(self.plain(&text[1..text.len() - 1]))
                } else {
                    Decimal::parse(text).map_or(Resolved::Nothing, Resolved::Number)
                }
            }
        }
    }

    fn equal(&self, left: &Resolved<'_>, right: &Resolved<'_>) -> bool {
        match (left, right) {
            (Resolved::Nothing, Resolved::Nothing) | (Resolved::Null, Resolved::Null) => true,
            (Resolved::Bool(left), Resolved::Bool(right)) => left == right,
            (Resolved::Container(left), Resolved::Container(right)) => {
                self.same_tree(*left, *right)
            }
            _ => order(left, right) == Some(Ordering::Equal),
        }
    }

    /// Deep equality. Two subtrees of one text are compared level by level from a list, not on the call stack.
    fn same_tree(&self, left: usize, right: usize) -> bool {
        let mut pairs = vec![(left, right)];
        while let Some((left, right)) = pairs.pop() {
            if left == right {
                continue;
            }
            let (a, b) = (&self.tape.entries[left], &self.tape.entries[right]);
            match (self.payload[a.start], self.payload[b.start]) {
                (kind @ b'[', b'[') | (kind @ b'{', b'{') => {
                    if a.children != b.children || self.spend(a.children as u64 + 1).is_break() {
                        return false;
                    }
                    if kind == b'[' {
                        pairs.extend(self.tape.children(left).zip(self.tape.children(right)));
                        continue;
                    }
                    for child in self.tape.children(left) {
                        let Some(twin) = self.twin(child, right) else {
                            return false;
                        };
                        pairs.push((child, twin));
                    }
                }
                (b'[' | b'{', _) | (_, b'[' | b'{') => return false,
                _ => {
                    if !self.equal(&self.value(left), &self.value(right)) {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// The first member of `object` that has the name of `member`.
    fn twin(&self, member: usize, object: usize) -> Option<usize> {
        let name = self.tape.entries[member].name?;
        let name = self.plain(&self.payload[name.start..name.end]);
        for twin in self.tape.children(object) {
            if self.spend(1).is_break() {
                return None;
            }
            if self.is_named(twin, &name) {
                return Some(twin);
            }
        }
        None
    }
}

fn order(left: &Resolved<'_>, right: &Resolved<'_>) -> Option<Ordering> {
    let (mut one, mut two) = ([0; 20], [0; 20]);
    match (left, right) {
        (Resolved::Text(left), Resolved::Text(right)) => Some(left.cmp(right)),
        _ => Some(decimal(left, &mut one)?.order(&decimal(right, &mut two)?)),
    }
}

fn decimal<'b>(value: &'b Resolved<'_>, buffer: &'b mut [u8; 20]) -> Option<Decimal<'b>> {
    match value {
        Resolved::Number(number) => Some(*number),
        Resolved::Count(count) => Some(Decimal::from_i64(i64::try_from(*count).ok()?, buffer)),
        _ => None,
    }
}
