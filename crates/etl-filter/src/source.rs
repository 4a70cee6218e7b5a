//! The rules as they were written, kept in about five bytes a filter beside the text of its pattern.
//!
//! Explanations and rebuilds read them; matching does not, except that the engine's literals point into the same text.

use std::ops::Range;

use crate::rule::{Kind, Node, Rule, TopicFilter};

const CASE_SENSITIVE: u8 = 1 << 6;
const NEGATE: u8 = 1 << 7;
const KIND: u8 = CASE_SENSITIVE - 1;

/// Operations of a rule in prefix notation, in the upper two bits; the argument is below.
const SHIFT: u32 = 30;
const ARGUMENT: u32 = (1 << SHIFT) - 1;
const FILTER: u32 = 0; // the filter's number
const NOT: u32 = 1;
const ANY: u32 = 2; // how many follow
const ALL: u32 = 3;

/// Rules as written.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// All patterns, one after the other; behind them, texts that the engine needs and no pattern holds.
    text: Vec<u8>,
    /// Where the pattern of each filter ends; it starts where the one before it ends.
    ends: Vec<u32>,
    flags: Vec<u8>,
    rules: usize,
    /// Where the operations of each rule start; empty as long as every rule is one filter.
    rule_starts: Vec<u32>,
    operations: Vec<u32>,
}

impl Sources {
    /// Adds a rule.
    pub(crate) fn add(&mut self, rule: &Rule) {
        let single = matches!(rule.node, Node::Filter(_));
        if !single && self.rule_starts.is_empty() {
            // So far rule and filter had one number; from here on each rule says what it is.
            self.rule_starts = (0..self.rules as u32).collect();
            self.operations = (0..self.rules as u32)
                .map(|filter| FILTER << SHIFT | filter)
                .collect();
        }
        if !single || !self.rule_starts.is_empty() {
            self.rule_starts.push(self.operations.len() as u32);
            self.add_operations(rule);
        } else if let Node::Filter(filter) = &rule.node {
            self.add_filter(filter);
        }
        self.rules += 1;
    }

    fn add_operations(&mut self, rule: &Rule) {
        match &rule.node {
            Node::Filter(filter) => {
                self.operations
                    .push(FILTER << SHIFT | self.ends.len() as u32);
                self.add_filter(filter);
            }
            Node::Not(rule) => {
                self.operations.push(NOT << SHIFT);
                self.add_operations(rule);
            }
            Node::Any(rules) | Node::All(rules) => {
                let operation = if matches!(rule.node, Node::Any(_)) {
                    ANY
                } else {
                    ALL
                };
                self.operations
                    .push(operation << SHIFT | rules.len() as u32 & ARGUMENT);
                rules.iter().for_each(|rule| self.add_operations(rule));
            }
            // Refused before it gets here.
            Node::TooDeep => self.operations.push(ANY << SHIFT),
        }
    }

    fn add_filter(&mut self, filter: &TopicFilter) {
        let kind = Kind::ALL
            .iter()
            .position(|kind| *kind == filter.kind())
            .unwrap_or_default() as u8;
        let case = if filter.is_case_sensitive() {
            CASE_SENSITIVE
        } else {
            0
        };
        let negate = if filter.is_negated() { NEGATE } else { 0 };
        self.flags.push(kind & KIND | case | negate);
        self.text.extend_from_slice(filter.pattern().as_bytes());
        self.ends.push(self.text.len() as u32);
    }

    pub(crate) fn rules(&self) -> usize {
        self.rules
    }

    pub(crate) fn filters(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all patterns as written.
    pub(crate) fn pattern_bytes(&self) -> usize {
        self.ends.last().map_or(0, |end| *end as usize)
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Where in the text `wanted` stands, within the pattern of `filter` if it does, else at the end of all.
    pub(crate) fn intern(&mut self, filter: usize, wanted: &str) -> u32 {
        let span = self.span(filter).unwrap_or_default();
        if let Some(at) = self
            .text
            .get(span.clone())
            .and_then(|text| memchr::memmem::find(text, wanted.as_bytes()))
        {
            return (span.start + at) as u32;
        }
        self.text.extend_from_slice(wanted.as_bytes());
        (self.text.len() - wanted.len()) as u32
    }

    fn span(&self, filter: usize) -> Option<Range<usize>> {
        let end = *self.ends.get(filter)? as usize;
        let start = filter.checked_sub(1).map_or(Some(0), |before| {
            self.ends.get(before).map(|end| *end as usize)
        })?;
        Some(start..end)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.text.capacity()
            + (self.ends.capacity() + self.rule_starts.capacity() + self.operations.capacity()) * 4
            + self.flags.capacity()
    }

    pub(crate) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.flags.shrink_to_fit();
        self.rule_starts.shrink_to_fit();
        self.operations.shrink_to_fit();
    }

    /// A filter as written.
    pub(crate) fn filter(&self, number: usize) -> Option<TopicFilter> {
        let pattern = std::str::from_utf8(self.text.get(self.span(number)?)?).ok()?;
        let flags = *self.flags.get(number)?;
        let kind = *Kind::ALL.get(usize::from(flags & KIND))?;
        Some(
            TopicFilter::new(kind, pattern)
                .with_case_sensitive(flags & CASE_SENSITIVE != 0)
                .with_negate(flags & NEGATE != 0),
        )
    }

    /// A rule as written.
    pub(crate) fn rule(&self, index: usize) -> Option<Rule> {
        if index >= self.rules {
            return None;
        }
        if self.rule_starts.is_empty() {
            return self.filter(index).map(Rule::from);
        }
        let mut at = *self.rule_starts.get(index)? as usize;
        self.read(&mut at)
    }

    fn read(&self, at: &mut usize) -> Option<Rule> {
        let word = *self.operations.get(*at)?;
        *at += 1;
        let argument = word & ARGUMENT;
        Some(match word >> SHIFT {
            FILTER => self.filter(argument as usize)?.into(),
            NOT => Rule::not(self.read(at)?),
            operation => {
                let rules = (0..argument)
                    .map(|_| self.read(at))
                    .collect::<Option<Vec<_>>>()?;
                if operation == ANY {
                    Rule::any(rules)
                } else {
                    Rule::all(rules)
                }
            }
        })
    }
}
