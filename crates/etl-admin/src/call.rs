//! One request, once it is known who asks for what: its parameters checked against the table of routes, its body as it came.

use std::collections::HashMap;

use etl_orchestrator::ChangeOptions;

use crate::access::Identity;
use crate::audit::Attempt;
use crate::http::{Answer, Head};
use crate::routes::{Kind, Route, Takes};

/// A request that may be answered.
pub(crate) struct Call {
    pub(crate) identity: Option<Identity>,
    pub(crate) route: &'static Route,
    parameters: HashMap<String, String>,
    query: HashMap<&'static str, String>,
    pub(crate) content_type: Option<String>,
    expected_generation: Option<u64>,
    from: String,
    pub(crate) body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(
        route: &'static Route,
        parameters: HashMap<String, String>,
        identity: Option<Identity>,
        head: &Head,
        from: String,
    ) -> Result<Self, Answer> {
        let mut query = HashMap::new();
        for (name, value) in &head.query {
            let mut known = route.parameters();
            let Some(parameter) = known.find(|parameter| parameter.name == name) else {
                let detail = format!("the parameter {name:?} is not known here");
                return Err(Answer::problem(400, detail));
            };
            if let Err(expected) = parameter.kind.check(value) {
                let detail = format!("{name} is {expected}, not {value:?}");
                return Err(Answer::problem(400, detail));
            }
            if query.insert(parameter.name, value.clone()).is_some() {
                return Err(Answer::problem(400, format!("more than one {name}")));
            }
        }
        let mut required = route.parameters().filter(|parameter| parameter.is_required);
        if let Some(missing) = required.find(|parameter| !query.contains_key(parameter.name)) {
            let detail = format!("the parameter {} is needed", missing.name);
            return Err(Answer::problem(400, detail));
        }
        let content_type = head.header("content-type").map(|kind| {
            let kind = kind.split(';').next().unwrap_or_default();
            kind.trim().to_ascii_lowercase()
        });
        let call = Self {
            identity,
            route,
            parameters,
            query,
            content_type,
            expected_generation: expected(head, route)?,
            from,
            body: Vec::new(),
        };
        call.check_content_type()?;
        Ok(call)
    }

    fn check_content_type(&self) -> Result<(), Answer> {
        let allowed: &[&str] = match self.route.takes {
            Takes::Nothing => return Ok(()),
            Takes::Document => &["application/json", "application/toml"],
            Takes::Json(_) => &["application/json"],
            Takes::Wasm => &["application/wasm", "application/octet-stream"],
        };
        match &self.content_type {
            Some(kind) if allowed.contains(&kind.as_str()) => Ok(()),
            _ => {
                let detail = format!("the content-type is to be {}", allowed.join(" or "));
                Err(Answer::problem(415, detail))
            }
        }
    }

    /// A parameter of the path, which has it.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// A parameter of the query.
    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Whether a pipeline may be told of.
    pub(crate) fn reaches(&self, pipeline: &str) -> bool {
        let mut identity = self.identity.iter();
        identity.all(|identity| identity.scope.holds(pipeline))
    }

    /// Whether the body is TOML and not JSON.
    pub(crate) fn is_toml(&self) -> bool {
        self.content_type.as_deref() == Some("application/toml")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> Result<&str, Answer> {
        std::str::from_utf8(&self.body).map_err(|error| {
            let at = error.valid_up_to();
            Answer::problem(400, format!("the body is not UTF-8, at byte {at}"))
        })
    }

    /// How a change is to be made.
    pub(crate) fn change(&self) -> ChangeOptions {
        let mut options = ChangeOptions::default();
        options.dry_run = self.query("dry_run") == Some("true");
        options.expected_generation = self.expected_generation;
        options.cause = self.cause();
        options
    }

    /// Who did what, for the list of generations.
    fn cause(&self) -> String {
        let name = self
            .identity
            .as_ref()
            .map_or("somebody", |identity| &identity.name);
        format!("{name}: {} {}", self.route.method, self.target())
    }

    /// Who tries what, for the audit log.
    pub(crate) fn attempt(&self) -> Attempt {
        let mut query: Vec<String> = self
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        query.sort();
        let mark = if query.is_empty() { "" } else { "?" };
        Attempt {
            who: self.identity.as_ref().map(|identity| identity.name.clone()),
            role: self.identity.as_ref().map(|identity| identity.role.name()),
            from: self.from.clone(),
            what: format!(
                "{} {}{mark}{}",
                self.route.method,
                self.target(),
                query.join("&")
            ),
        }
    }

    /// The path that was asked for.
    fn target(&self) -> String {
        let mut target = self.route.path.to_owned();
        for (name, value) in &self.parameters {
            target = target.replace(&format!("{{{name}}}"), value);
        }
        target
    }
}

/// The generation that `If-Match` asks for.
fn expected(head: &Head, route: &Route) -> Result<Option<u64>, Answer> {
    let Some(tag) = head.header("if-match").filter(|_| route.changes()) else {
        return Ok(None);
    };
    if tag == "*" {
        return Ok(None);
    }
    let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let generation = digits.unwrap_or(tag).parse().ok();
    let detail = "if-match is a generation, as in \"7\", as the etag of what was read says";
    generation
        .map(Some)
        .ok_or_else(|| Answer::problem(400, detail))
}

impl Kind {
    /// What it should have been, if it is not.
    fn check(self, value: &str) -> Result<(), String> {
        let (is_right, expected) = match self {
            Self::Text => (true, String::new()),
            Self::Boolean => (
                matches!(value, "true" | "false"),
                "true or false".to_owned(),
            ),
            Self::Integer(least, most) => (
                value
                    .parse()
                    .is_ok_and(|value: u64| (least..=most).contains(&value)),
                format!("an integer of {least} to {most}"),
            ),
            Self::Fraction => (
                value
                    .parse()
                    .is_ok_and(|value: f64| (0.0..=1.0).contains(&value)),
                "a number of 0 to 1".to_owned(),
            ),
            Self::OneOf(names) => (names.contains(&value), names.join(" or ")),
        };
        if is_right { Ok(()) } else { Err(expected) }
    }
}
