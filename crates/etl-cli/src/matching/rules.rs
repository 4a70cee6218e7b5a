//! The rules file of `etl match`: TOML or JSON, with the place of every id and pattern kept for messages.
//!
//! Both formats are read into one document that is generic over how a string knows its place: the TOML parser hands
//! out spans, and a JSON string borrowed from the text lies where it lies.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use etl_filter::{Kind, Rule, TopicFilter};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use serde_json::value::RawValue;
use toml::Spanned;

/// Rules, with what is needed to say where one of them stands.
pub struct Rules {
    /// In file order, as the rules are.
    pub ids: Vec<String>,
    pub rules: Vec<Rule>,
    /// For each rule, for each of its filters in the order of [`Rule::filters`]: the byte at which its pattern stands.
    patterns: Vec<Vec<usize>>,
    id_places: Vec<usize>,
    file: String,
    text: String,
}

/// One thing that is wrong with a rules file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    file: String,
    /// Line and column, from 1.
    position: Option<(usize, usize)>,
    rule: Option<String>,
    message: String,
    /// A pattern, and the byte of it that is meant.
    pattern: Option<(String, usize)>,
}

impl Problem {
    /// The same for programs.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "file": self.file,
            "line": self.position.map(|(line, _)| line),
            "column": self.position.map(|(_, column)| column),
            "rule": self.rule,
            "message": self.message,
            "pattern": self.pattern.as_ref().map(|(pattern, _)| pattern),
            "position_in_pattern": self.pattern.as_ref().map(|(_, position)| position),
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        f.write_str(": ")?;
        if let Some(rule) = &self.rule {
            write!(f, "rule `{rule}`: ")?;
        }
        f.write_str(&self.message)?;
        if let Some((pattern, position)) = &self.pattern {
            let before = pattern
                .get(..*position)
                .map_or(0, |text| text.chars().count());
            write!(f, "\n    {pattern}\n    {}^", " ".repeat(before))?;
        }
        Ok(())
    }
}

/// Reads a rules file.
///
/// The errors are all that is wrong with its form; whether patterns can be compiled shows when they are.
pub fn read(path: &Path, text: String) -> Result<Rules, Vec<Problem>> {
    let file = path.display().to_string();
    let json = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => true,
        Some("toml") => false,
        _ => text.trim_start().starts_with('{'),
    };
    let at = |offset: usize, rule: Option<&str>, message: String| Problem {
        file: file.clone(),
        position: Some(position(&text, offset)),
        rule: rule.map(str::to_owned),
        message,
        pattern: None,
    };
    let written = if json {
        serde_json::from_str::<Document<JsonText<'_>>>(&text)
            .map(|document| {
                document.place(&|string| {
                    (
                        string.value,
                        string.raw.as_ptr() as usize - text.as_ptr() as usize,
                    )
                })
            })
            .map_err(|error| {
                let message = error.to_string();
                let tail = format!(" at line {} column {}", error.line(), error.column());
                Problem {
                    position: Some((error.line(), error.column())),
                    ..at(
                        0,
                        None,
                        message.strip_suffix(&tail).unwrap_or(&message).to_owned(),
                    )
                }
            })
    } else {
        toml::from_str::<Document<Spanned<String>>>(&text)
            .map(|document| {
                document.place(&|string| {
                    let start = string.span().start;
                    (string.into_inner(), start)
                })
            })
            .map_err(|error| {
                let start = error.span().map_or(0, |span| span.start);
                at(start, None, error.message().to_owned())
            })
    };
    let written = written.map_err(|problem| vec![problem])?;

    let mut problems = Vec::new();
    let mut rules = Rules {
        ids: Vec::new(),
        rules: Vec::new(),
        patterns: Vec::new(),
        id_places: Vec::new(),
        file: file.clone(),
        text: String::new(),
    };
    let mut seen: HashMap<String, usize> = HashMap::new();
    for rule in written {
        let (id, place) = &rule.id.clone();
        if let Some(first) = seen.insert(id.clone(), *place) {
            let line = position(&text, first).0;
            problems.push(at(
                *place,
                Some(id),
                format!("its id is taken by the rule in line {line}"),
            ));
        }
        let mut patterns = Vec::new();
        match rule.rule(&mut patterns) {
            Ok(compiled) => {
                rules.ids.push(id.clone());
                rules.rules.push(compiled);
                rules.patterns.push(patterns);
                rules.id_places.push(*place);
            }
            Err((message, offset)) => {
                problems.push(at(offset.unwrap_or(*place), Some(id), message));
            }
        }
    }
    if problems.is_empty() {
        rules.text = text;
        Ok(rules)
    } else {
        Err(problems)
    }
}

impl Rules {
    /// What the compiler says about a rule, with its place in the file.
    pub fn problem(&self, error: &etl_filter::BuildError) -> Problem {
        let rule = error.rule().index();
        let filter = error.filter_index();
        let offset = filter
            .and_then(|filter| self.patterns[rule].get(filter))
            .unwrap_or(&self.id_places[rule]);
        let pattern = error.filter().map(|filter| filter.pattern().to_owned());
        Problem {
            file: self.file.clone(),
            position: Some(position(&self.text, *offset)),
            rule: Some(self.ids[rule].clone()),
            message: error.message().to_owned(),
            pattern: pattern.zip(error.position()),
        }
    }
}

/// Line and column, from 1, columns in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// What a file says. `S` is a string that knows its place.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Deserialize<'de>"))]
struct Document<S> {
    rules: Vec<RuleDocument<S>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Deserialize<'de>"))]
struct RuleDocument<S> {
    id: S,
    filters: Option<Vec<Node<S>>>,
    filter_logic: Option<S>,
    filter: Option<Node<S>>,
}

/// A filter, or any, all or not of some. One struct rather than an enum: an enum without a tag would lose the places.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "S: Deserialize<'de>"))]
struct Node<S> {
    any: Option<Vec<Self>>,
    all: Option<Vec<Self>>,
    not: Option<Box<Self>>,
    filter_type: Option<S>,
    pattern: Option<S>,
    case_sensitive: Option<bool>,
    negate: Option<bool>,
}

struct JsonText<'a> {
    value: String,
    raw: &'a str,
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        match serde_json::from_str(raw) {
            Ok(value) => Ok(Self { value, raw }),
            Err(_) => Err(serde::de::Error::custom(format_args!(
                "expected a string, found `{raw}`"
            ))),
        }
    }
}

/// A string and the byte at which it stands.
type Text = (String, usize);

impl<S> Document<S> {
    fn place(self, place: &dyn Fn(S) -> Text) -> Vec<RuleDocument<Text>> {
        self.rules
            .into_iter()
            .map(|rule| rule.place(place))
            .collect()
    }
}

impl<S> RuleDocument<S> {
    fn place(self, place: &dyn Fn(S) -> Text) -> RuleDocument<Text> {
        RuleDocument {
            id: place(self.id),
            filters: self.filters.map(|filters| place_all(filters, place)),
            filter_logic: self.filter_logic.map(place),
            filter: self.filter.map(|filter| filter.place(place)),
        }
    }
}

fn place_all<S>(nodes: Vec<Node<S>>, place: &dyn Fn(S) -> Text) -> Vec<Node<Text>> {
    nodes.into_iter().map(|node| node.place(place)).collect()
}

impl<S> Node<S> {
    fn place(self, place: &dyn Fn(S) -> Text) -> Node<Text> {
        Node {
            any: self.any.map(|nodes| place_all(nodes, place)),
            all: self.all.map(|nodes| place_all(nodes, place)),
            not: self.not.map(|node| Box::new(node.place(place))),
            filter_type: self.filter_type.map(place),
            pattern: self.pattern.map(place),
            case_sensitive: self.case_sensitive,
            negate: self.negate,
        }
    }
}

/// What is wrong, and where if that is not the whole rule.
type Wrong = (String, Option<usize>);

impl RuleDocument<Text> {
    /// The rule; the places of its patterns go to `patterns`.
    fn rule(self, patterns: &mut Vec<usize>) -> Result<Rule, Wrong> {
        match (self.filters, self.filter) {
            (Some(filters), None) => {
                if filters.is_empty() {
                    return Err((
                        "it has no filters, so nothing would match it".to_owned(),
                        None,
                    ));
                }
                let rules = filters
                    .into_iter()
                    .map(|node| match node {
                        Node {
                            any: None,
                            all: None,
                            not: None,
                            ..
                        } => node.rule(patterns),
                        _ => Err((
                            "`filters` is a plain list; any, all and not go under `filter`"
                                .to_owned(),
                            None,
                        )),
                    })
                    .collect::<Result<Vec<Rule>, Wrong>>()?;
                match self.filter_logic {
                    None => Ok(Rule::any(rules)),
                    Some((logic, _)) if logic == "any" => Ok(Rule::any(rules)),
                    Some((logic, _)) if logic == "all" => Ok(Rule::all(rules)),
                    Some((logic, place)) => Err((
                        format!("`filter_logic` is \"any\" or \"all\", not \"{logic}\""),
                        Some(place),
                    )),
                }
            }
            (None, Some(node)) => match self.filter_logic {
                None => node.rule(patterns),
                Some((_, place)) => Err((
                    "`filter_logic` belongs to `filters`; `filter` says any or all itself"
                        .to_owned(),
                    Some(place),
                )),
            },
            (Some(_), Some(_)) => Err(("it has both `filters` and `filter`".to_owned(), None)),
            (None, None) => Err(("it has neither `filters` nor `filter`".to_owned(), None)),
        }
    }
}

impl Node<Text> {
    fn rule(self, patterns: &mut Vec<usize>) -> Result<Rule, Wrong> {
        let place = self
            .pattern
            .as_ref()
            .or(self.filter_type.as_ref())
            .map(|(_, place)| *place);
        let is_filter = place.is_some() || self.case_sensitive.is_some() || self.negate.is_some();
        let mut rules = |nodes: Vec<Self>| {
            nodes
                .into_iter()
                .map(|node| node.rule(patterns))
                .collect::<Result<Vec<Rule>, Wrong>>()
        };
        match (self.any, self.all, self.not, is_filter) {
            (Some(nodes), None, None, false) => Ok(Rule::any(rules(nodes)?)),
            (None, Some(nodes), None, false) => Ok(Rule::all(rules(nodes)?)),
            (None, None, Some(node), false) => Ok(Rule::not(node.rule(patterns)?)),
            (None, None, None, _) => {
                let Some((kind, kind_place)) = self.filter_type else {
                    return Err(("a filter lacks `filter_type`".to_owned(), place));
                };
                let Some((pattern, pattern_place)) = self.pattern else {
                    return Err(("a filter lacks `pattern`".to_owned(), place));
                };
                let kind: Kind = kind.parse().map_err(|error: etl_filter::UnknownKind| {
                    (error.to_string(), Some(kind_place))
                })?;
                patterns.push(pattern_place);
                Ok(TopicFilter::new(kind, pattern)
                    .with_case_sensitive(self.case_sensitive.unwrap_or(true))
                    .with_negate(self.negate.unwrap_or(false))
                    .into())
            }
            _ => Err((
                "a filter is one of `any`, `all`, `not`, or `filter_type` with `pattern`"
                    .to_owned(),
                place,
            )),
        }
    }
}
