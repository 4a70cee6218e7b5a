//! What the tree of a rules file means: rules, and a word about everything that is none.

use std::collections::HashMap;

use etl_filter::{Kind, Rule, TopicFilter};

use super::document::{Entry, Format, Node, Value};
use super::rules::Rules;

/// Something that is wrong, and where.
pub struct Wrong {
    pub at: usize,
    pub rule: Option<String>,
    pub message: String,
}

/// Reads the tree of a file, and goes on after a mistake.
pub struct Reader {
    format: Format,
    /// The id of the rule that is being read, once it is known.
    rule: Option<String>,
    wrong: Vec<Wrong>,
}

const FILTER_FIELDS: &[&str] = &[
    "any",
    "all",
    "not",
    "filter_type",
    "pattern",
    "case_sensitive",
    "negate",
];

impl Reader {
    pub fn new(format: Format) -> Self {
        Self {
            format,
            rule: None,
            wrong: Vec::new(),
        }
    }

    /// All that is wrong, in the order in which it was met.
    pub fn into_wrong(self) -> Vec<Wrong> {
        self.wrong
    }

    /// Notes what is wrong, of the rule that is being read.
    pub fn wrong(&mut self, at: usize, message: impl Into<String>) {
        self.wrong.push(Wrong {
            at,
            rule: self.rule.clone(),
            message: message.into(),
        });
    }

    /// Another kind of value than is wanted; `shape` shows what that would look like.
    fn mismatch(&mut self, node: &Node, what: &str, wanted: &str, shape: &str) {
        let found = self.format.describe(&node.value);
        let like = if shape.is_empty() {
            String::new()
        } else {
            format!(", such as {shape}")
        };
        self.wrong(node.at, format!("{what} is {wanted}{like}; found {found}"));
    }

    /// A filter, a rule or a file, as this format would write it.
    fn shape(&self, what: Shape) -> &'static str {
        match (what, self.format) {
            (Shape::File, Format::Json) => {
                r#"{ "rules": [{ "id": "errors", "filters": [{ "filter_type": "Suffix", "pattern": ".error" }] }] }"#
            }
            (Shape::Rule, Format::Json) => {
                r#"{ "id": "errors", "filters": [{ "filter_type": "Suffix", "pattern": ".error" }] }"#
            }
            (Shape::Filter, Format::Json) => r#"{ "filter_type": "Suffix", "pattern": ".error" }"#,
            (Shape::File, Format::Toml) => {
                r#"rules = [{ id = "errors", filters = [{ filter_type = "Suffix", pattern = ".error" }] }]"#
            }
            (Shape::Rule, Format::Toml) => {
                r#"{ id = "errors", filters = [{ filter_type = "Suffix", pattern = ".error" }] }"#
            }
            (Shape::Filter, Format::Toml) => r#"{ filter_type = "Suffix", pattern = ".error" }"#,
        }
    }

    /// The fields of a table, and a word about those that it cannot have.
    fn table<'a>(
        &mut self,
        node: &'a Node,
        what: &str,
        shape: Shape,
        known: &[&str],
    ) -> Option<Fields<'a>> {
        let Value::Table(entries) = &node.value else {
            let (table, shape) = (self.format.table(), self.shape(shape));
            self.mismatch(node, what, table, shape);
            return None;
        };
        for entry in entries {
            if !known.contains(&&*entry.key) {
                let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                self.wrong(
                    entry.at,
                    format!(
                        "unknown field `{}`, expected one of {}",
                        entry.key,
                        names.join(", ")
                    ),
                );
            }
        }
        Some(Fields(entries))
    }

    fn list<'a>(&mut self, node: &'a Node, what: &str, shape: Shape) -> Option<&'a [Node]> {
        if let Value::List(items) = &node.value {
            return Some(items);
        }
        let shape = format!("[{}]", self.shape(shape));
        self.mismatch(node, what, "a list", &shape);
        None
    }

    fn text<'a>(&mut self, node: &'a Node, what: &str) -> Option<&'a str> {
        if let Value::Text(text) = &node.value {
            return Some(text);
        }
        self.mismatch(node, what, "a string", "");
        None
    }

    /// The text of a field that must be there.
    fn required<'a>(
        &mut self,
        fields: &Fields<'a>,
        node: &Node,
        what: &str,
        name: &str,
    ) -> Option<(&'a str, usize)> {
        let Some(field) = fields.get(name) else {
            self.wrong(node.at, format!("{what} lacks `{name}`"));
            return None;
        };
        let text = self.text(field, &format!("`{name}`"))?;
        Some((text, field.at))
    }

    fn boolean(&mut self, fields: &Fields<'_>, name: &str, default: bool) -> bool {
        match fields.get(name) {
            None => default,
            Some(Node {
                value: Value::Bool(value),
                ..
            }) => *value,
            Some(other) => {
                self.mismatch(other, &format!("`{name}`"), "true or false", "");
                default
            }
        }
    }

    /// Reads a file: what can be used of it goes to `rules`.
    pub fn document(&mut self, document: &Node, rules: &mut Rules) {
        let Some(fields) = self.table(document, "a rules file", Shape::File, &["rules"]) else {
            return;
        };
        let Some(list) = fields.get("rules") else {
            let shape = self.shape(Shape::File);
            self.wrong(
                document.at,
                format!("missing field `rules`: a rules file has a list of rules, such as {shape}"),
            );
            return;
        };
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for node in self.list(list, "`rules`", Shape::Rule).unwrap_or_default() {
            self.rule = None;
            let known = ["id", "filters", "filter_logic", "filter"];
            // The id first, so that everything else can be told by it.
            let id = match &node.value {
                Value::Table(entries) => Fields(entries).get("id"),
                _ => None,
            };
            if let Some(Node {
                value: Value::Text(id),
                at,
            }) = id
            {
                if id.is_empty() {
                    self.wrong(*at, "`id` is empty: give the rule a name".to_owned());
                } else {
                    self.rule = Some(id.clone());
                }
                if let Some(first) = seen.insert(id, *at) {
                    let line = rules.places.position(first).0;
                    self.wrong(*at, format!("its id is taken by the rule in line {line}"));
                }
            }
            let before = self.wrong.len();
            let Some(fields) = self.table(node, "a rule", Shape::Rule, &known) else {
                continue;
            };
            let id = self.required(&fields, node, "a rule", "id");
            let mut leaves = Leaves::default();
            let rule = self.filters(&fields, node, &mut leaves);
            let Some((id, place)) = id else { continue };
            // Of a rule that cannot be used, the patterns are looked at all the same.
            let rule = rule
                .filter(|_| self.wrong.len() == before)
                .unwrap_or_else(|| Rule::any(leaves.filters));
            rules.ids.push(id.to_owned());
            rules.rules.push(rule);
            rules.patterns.push(leaves.places);
            rules.id_places.push(place);
        }
        self.rule = None;
    }

    /// What a rule matches; its filters go to `leaves` too.
    fn filters(&mut self, fields: &Fields<'_>, node: &Node, leaves: &mut Leaves) -> Option<Rule> {
        let place = fields.get("id").map_or(node.at, |id| id.at);
        let logic = fields.get("filter_logic");
        match (fields.get("filters"), fields.get("filter")) {
            (Some(filters), None) => {
                let all = match logic {
                    None => false,
                    Some(node) => match self.text(node, "`filter_logic`") {
                        Some("any") | None => false,
                        Some("all") => true,
                        Some(other) => {
                            self.wrong(
                                node.at,
                                format!("`filter_logic` is \"any\" or \"all\", not {other:?}"),
                            );
                            false
                        }
                    },
                };
                let items = self.list(filters, "`filters`", Shape::Filter)?;
                if items.is_empty() {
                    self.wrong(
                        filters.at,
                        "it has no filters: `filters` is an empty list, give it at least one",
                    );
                    return None;
                }
                let mut rules = Vec::with_capacity(items.len());
                for item in items {
                    if let Value::Table(entries) = &item.value
                        && let Some(composed) = ["any", "all", "not"]
                            .iter()
                            .find_map(|name| Fields(entries).entry(name))
                    {
                        self.wrong(
                            composed.at,
                            "`filters` is a plain list; any, all and not go under `filter`",
                        );
                        continue;
                    }
                    rules.extend(self.node(item, leaves));
                }
                Some(if all {
                    Rule::all(rules)
                } else {
                    Rule::any(rules)
                })
            }
            (None, Some(filter)) => {
                if let Some(logic) = logic {
                    self.wrong(
                        logic.at,
                        "`filter_logic` belongs to `filters`; `filter` says any or all itself",
                    );
                }
                self.node(filter, leaves)
            }
            (Some(_), Some(_)) => {
                self.wrong(place, "it has both `filters` and `filter`");
                None
            }
            (None, None) => {
                self.wrong(place, "it has neither `filters` nor `filter`");
                None
            }
        }
    }

    /// A filter, or any, all or not of some.
    fn node(&mut self, node: &Node, leaves: &mut Leaves) -> Option<Rule> {
        let fields = self.table(node, "a filter", Shape::Filter, FILTER_FIELDS)?;
        let place = fields
            .get("pattern")
            .or_else(|| fields.get("filter_type"))
            .map_or(node.at, |node| node.at);
        let is_filter = FILTER_FIELDS[3..]
            .iter()
            .any(|name| fields.get(name).is_some());
        match (
            fields.get("any"),
            fields.get("all"),
            fields.get("not"),
            is_filter,
        ) {
            (Some(any), None, None, false) => {
                let always = "`any` is an empty list, which no topic would match";
                self.nodes(any, "`any`", always, leaves).map(Rule::any)
            }
            (None, Some(all), None, false) => {
                let always = "`all` is an empty list, which every topic would match";
                self.nodes(all, "`all`", always, leaves).map(Rule::all)
            }
            (None, None, Some(not), false) => self.node(not, leaves).map(Rule::not),
            (None, None, None, _) => self.leaf(&fields, place, leaves),
            _ => {
                self.wrong(
                    place,
                    "a filter is one of `any`, `all`, `not`, or `filter_type` with `pattern`",
                );
                None
            }
        }
    }

    fn nodes(
        &mut self,
        list: &Node,
        what: &str,
        always: &str,
        leaves: &mut Leaves,
    ) -> Option<Vec<Rule>> {
        let items = self.list(list, what, Shape::Filter)?;
        if items.is_empty() {
            self.wrong(list.at, format!("{always}: give it at least one filter"));
            return None;
        }
        Some(
            items
                .iter()
                .filter_map(|node| self.node(node, leaves))
                .collect(),
        )
    }

    fn leaf(&mut self, fields: &Fields<'_>, place: usize, leaves: &mut Leaves) -> Option<Rule> {
        let around = Node {
            at: place,
            value: Value::Null,
        };
        let kind = self.required(fields, &around, "a filter", "filter_type");
        let pattern = self.required(fields, &around, "a filter", "pattern");
        let case_sensitive = self.boolean(fields, "case_sensitive", true);
        let negate = self.boolean(fields, "negate", false);
        let kind = kind.and_then(|(kind, at)| match kind.parse::<Kind>() {
            Ok(kind) => Some(kind),
            Err(error) => {
                self.wrong(at, error.to_string());
                None
            }
        })?;
        let (pattern, at) = pattern?;
        let filter = TopicFilter::new(kind, pattern)
            .with_case_sensitive(case_sensitive)
            .with_negate(negate);
        leaves.places.push(at);
        leaves.filters.push(filter.clone());
        Some(filter.into())
    }
}

/// The filters of a rule, in the order of [`Rule::filters`], and the bytes at which their patterns stand.
#[derive(Default)]
struct Leaves {
    filters: Vec<TopicFilter>,
    places: Vec<usize>,
}

/// What is shown of what is expected.
#[derive(Clone, Copy)]
enum Shape {
    File,
    Rule,
    Filter,
}

/// The fields of a table. One that is null is not there.
struct Fields<'a>(&'a [Entry]);

impl<'a> Fields<'a> {
    fn entry(&self, name: &str) -> Option<&'a Entry> {
        self.0
            .iter()
            .find(|entry| entry.key == name && !matches!(entry.node.value, Value::Null))
    }

    fn get(&self, name: &str) -> Option<&'a Node> {
        self.entry(name).map(|entry| &entry.node)
    }
}
