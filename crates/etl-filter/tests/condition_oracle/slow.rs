//! The slow evaluator: paths by walking with `serde_json`, numbers by writing them out, operators by their definitions.

use std::cell::Cell;
use std::cmp::Ordering;
use std::fmt;

use etl_filter::conditions::{Condition, Operator, Value};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Name(&'static str),
    Index(usize),
}

use Step::{Index, Name};

/// Paths that are singular.
pub const SINGULAR: &[(&str, &[Step])] = &[
    ("$", &[]),
    ("$.a", &[Name("a")]),
    ("$.b", &[Name("b")]),
    ("$['']", &[Name("")]),
    ("$['ä\"']", &[Name("ä\"")]),
    ("$.a.a", &[Name("a"), Name("a")]),
    ("$.a.b", &[Name("a"), Name("b")]),
    ("$.b.a[1]", &[Name("b"), Name("a"), Index(1)]),
    ("$.a[0]", &[Name("a"), Index(0)]),
    ("$.a[1].b", &[Name("a"), Index(1), Name("b")]),
    ("$[0]", &[Index(0)]),
    ("$[1].a", &[Index(1), Name("a")]),
    ("$[1][2]", &[Index(1), Index(2)]),
];

/// Queries that are not, each with the nodes it selects.
pub type Nodes = fn(&Tree) -> Vec<&Tree>;
pub const GENERAL: &[(&str, Nodes)] = &[
    ("$.*", |tree| tree.children().collect()),
    ("$.a[*]", |tree| {
        tree.named("a")
            .into_iter()
            .flat_map(Tree::children)
            .collect()
    }),
    ("$..a", |tree| {
        tree.descendants()
            .into_iter()
            .filter_map(|node| node.named("a"))
            .collect()
    }),
    ("$[-1]", |tree| tree.elements().last().into_iter().collect()),
    ("$.a[1:]", |tree| {
        tree.named("a")
            .into_iter()
            .flat_map(|a| a.elements().iter().skip(1))
            .collect()
    }),
    ("$['a','b']", |tree| {
        ["a", "b"]
            .iter()
            .filter_map(|name| tree.named(name))
            .collect()
    }),
    ("$[?@.a == 1]", |tree| {
        let is_one = |node: &&Tree| {
            node.named("a")
                .is_some_and(|a| a.json() == Json::Number(Written::out("1")))
        };
        tree.children().filter(is_one).collect()
    }),
];

/// A scalar as the operators see it.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Written),
    Text(String),
    Container,
}

/// A number written out without an exponent: its sign, and the digits before and behind the point without idle zeros.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    negative: bool,
    whole: String,
    fraction: String,
}

impl Written {
    fn out(text: &str) -> Written {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let (negative, whole) = whole
            .strip_prefix('-')
            .map_or((false, whole), |whole| (true, whole));
        // Beyond this nothing but zero is left, and zero needs no shifting.
        // One that does not fit is as far away as any beyond these.
        let beyond = if exponent.starts_with('-') {
            -2000
        } else {
            2000
        };
        let exponent: i32 = exponent.parse().unwrap_or(beyond).clamp(-2000, 2000);
        let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
        for _ in 0..exponent {
            if fraction.is_empty() {
                fraction.push('0');
            }
            whole.push(fraction.remove(0));
        }
        for _ in exponent..0 {
            fraction.insert(0, whole.pop().unwrap_or('0'));
        }
        let (whole, fraction) = (
            whole.trim_start_matches('0'),
            fraction.trim_end_matches('0'),
        );
        let zero = whole.is_empty() && fraction.is_empty();
        Written {
            negative: negative && !zero,
            whole: whole.to_owned(),
            fraction: fraction.to_owned(),
        }
    }

    fn order(&self, other: &Written) -> Ordering {
        let size = self
            .whole
            .len()
            .cmp(&other.whole.len())
            .then_with(|| self.whole.cmp(&other.whole))
            .then_with(|| self.fraction.cmp(&other.fraction));
        match (self.negative, other.negative) {
            (false, false) => size,
            (true, true) => size.reverse(),
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
        }
    }
}

fn scalar(raw: &str) -> Json {
    match raw.as_bytes()[0] {
        b'n' => Json::Null,
        b't' => Json::Bool(true),
        b'f' => Json::Bool(false),
        b'"' => Json::Text(serde_json::from_str(raw).unwrap()),
        b'{' | b'[' => Json::Container,
        _ => Json::Number(Written::out(raw)),
    }
}

fn holds(operator: Operator, found: &Json, constant: &Value) -> bool {
    let order = match (found, constant) {
        (Json::Number(found), Value::Number(constant)) => {
            Some(found.order(&Written::out(&constant.to_string())))
        }
        (Json::Text(found), Value::String(constant)) => Some(found.cmp(constant)),
        _ => None,
    };
    let equal = match (found, constant) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(found), Value::Bool(constant)) => found == constant,
        _ => order == Some(Ordering::Equal),
    };
    let texts = |test: fn(&str, &str) -> bool| match (found, constant) {
        (Json::Text(found), Value::String(constant)) => test(found, constant),
        _ => false,
    };
    match operator {
        Operator::Equals => equal,
        Operator::NotEquals => !equal,
        Operator::GreaterThan => order == Some(Ordering::Greater),
        Operator::LessThan => order == Some(Ordering::Less),
        Operator::GreaterThanOrEqual => order.is_some_and(Ordering::is_ge),
        Operator::LessThanOrEqual => order.is_some_and(Ordering::is_le),
        // The constants have no characters that a regular expression takes for anything but themselves.
        Operator::Contains | Operator::Matches => texts(|found, constant| found.contains(constant)),
        Operator::StartsWith => texts(|found, constant| found.starts_with(constant)),
        Operator::EndsWith => texts(|found, constant| found.ends_with(constant)),
    }
}

/// The text of the first value at a path, if everything up to its end is well-formed.
fn first_at<'p>(payload: &'p [u8], steps: &[Step]) -> Option<&'p str> {
    let found = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(payload);
    deserializer.disable_recursion_limit();
    // An error may be nothing but the end of the search.
    let _ended = Search {
        steps,
        found: &found,
    }
    .deserialize(&mut deserializer);
    let raw = found.get()?.trim_ascii();
    let end = raw.as_ptr() as usize - payload.as_ptr() as usize + raw.len();
    let enclosed = !steps.is_empty();
    let closed = matches!(raw.as_bytes()[0], b'"' | b'{' | b'[');
    let delimited = match payload.get(end) {
        Some(byte) => b",}] \n\r\t".contains(byte),
        None => !enclosed,
    };
    (closed || delimited).then_some(raw)
}

struct Search<'s, 'p> {
    steps: &'s [Step],
    found: &'s Cell<Option<&'p str>>,
}

impl<'p> DeserializeSeed<'p> for Search<'_, 'p> {
    type Value = ();
    fn deserialize<D: Deserializer<'p>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.steps.is_empty() {
            let raw: &RawValue = serde::Deserialize::deserialize(deserializer)?;
            if has_sound_strings(raw.get()) {
                self.found.set(Some(raw.get()));
            }
            return Err(serde::de::Error::custom("found"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'p> Visitor<'p> for Search<'_, 'p> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a container")
    }
    fn visit_map<A: MapAccess<'p>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match self.steps[0] {
                Name(wanted) if wanted == name => {
                    map.next_value_seed(Search {
                        steps: &self.steps[1..],
                        found: self.found,
                    })?;
                    return Err(serde::de::Error::custom("the first member is the only one"));
                }
                _ => checked(map.next_value()?)?,
            }
        }
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'p>>(self, mut list: A) -> Result<(), A::Error> {
        for index in 0.. {
            match self.steps[0] {
                Index(wanted) if wanted == index => {
                    list.next_element_seed(Search {
                        steps: &self.steps[1..],
                        found: self.found,
                    })?;
                    break;
                }
                _ => {
                    let Some(raw) = list.next_element()? else {
                        break;
                    };
                    checked(raw)?;
                }
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

fn checked<E: serde::de::Error>(raw: &RawValue) -> Result<(), E> {
    if has_sound_strings(raw.get()) {
        Ok(())
    } else {
        Err(E::custom("half a surrogate pair"))
    }
}

/// `RawValue` takes numbers of any size, as conditions do, but lets through what only reading a string refuses: escapes of
/// single surrogates.
fn has_sound_strings(raw: &str) -> bool {
    let mut rest = raw;
    while let Some(start) = rest.find('"') {
        let mut escaped = false;
        let inside = rest[start + 1..].find(|letter| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        let end = start + 1 + inside.unwrap() + 1;
        if serde_json::from_str::<String>(&rest[start..end]).is_err() {
            return false;
        }
        rest = &rest[end..];
    }
    true
}

/// A whole payload, names in the order of the text, all of them.
#[derive(Debug)]
pub enum Tree {
    Scalar(Json),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    fn read(payload: &[u8]) -> Option<Tree> {
        let raw: &RawValue = serde_json::from_slice(payload).ok()?;
        has_sound_strings(raw.get()).then(|| Tree::of(raw.get()))
    }

    fn of(raw: &str) -> Tree {
        struct Members;
        impl<'p> Visitor<'p> for Members {
            type Value = Vec<(String, Tree)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'p>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    members.push((name, Tree::of(value.get())));
                }
                Ok(members)
            }
        }
        match raw.as_bytes()[0] {
            b'{' => {
                let mut deserializer = serde_json::Deserializer::from_str(raw);
                Tree::Object(deserializer.deserialize_map(Members).unwrap())
            }
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(raw).unwrap();
                Tree::Array(
                    elements
                        .into_iter()
                        .map(|element| Tree::of(element.get()))
                        .collect(),
                )
            }
            _ => Tree::Scalar(scalar(raw)),
        }
    }

    fn json(&self) -> Json {
        match self {
            Tree::Scalar(json) => json.clone(),
            _ => Json::Container,
        }
    }

    fn children(&self) -> Box<dyn Iterator<Item = &Tree> + '_> {
        match self {
            Tree::Scalar(_) => Box::new(std::iter::empty()),
            Tree::Array(elements) => Box::new(elements.iter()),
            Tree::Object(members) => Box::new(members.iter().map(|(_, value)| value)),
        }
    }

    fn elements(&self) -> &[Tree] {
        match self {
            Tree::Array(elements) => elements,
            _ => &[],
        }
    }

    fn named(&self, wanted: &str) -> Option<&Tree> {
        match self {
            Tree::Object(members) => members
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    fn descendants(&self) -> Vec<&Tree> {
        let mut all = vec![self];
        for child in self.children() {
            all.extend(child.descendants());
        }
        all
    }
}

/// What the slow evaluator finds at a path.
pub fn find(path: &str, payload: &[u8]) -> Vec<Json> {
    if let Some((_, steps)) = SINGULAR.iter().find(|(known, _)| *known == path) {
        return first_at(payload, steps).map(scalar).into_iter().collect();
    }
    let (_, nodes) = GENERAL.iter().find(|(known, _)| *known == path).unwrap();
    Tree::read(payload)
        .map(|tree| nodes(&tree).into_iter().map(Tree::json).collect())
        .unwrap_or_default()
}

pub fn slowly(condition: &Condition, found: &[Json]) -> bool {
    let any = found
        .iter()
        .any(|found| holds(condition.operator, found, &condition.value));
    let absent = found.is_empty() && condition.operator == Operator::NotEquals;
    (any || absent) != condition.negate
}
