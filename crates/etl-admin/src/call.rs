//! One request, once it is known who asks for what: its parameters checked against the table of routes, its body as it came.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::request::Parts;
use etl_orchestrator::ChangeOptions;

use crate::access::Identity;
use crate::answer::Answer;
use crate::audit::Attempt;
use crate::reception::header;
use crate::routes::{Kind, Route, Takes};

/// A request that may be answered.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) identity: Option<Identity>,
    pub(crate) route: &'static Route,
    parameters: HashMap<String, String>,
    query: HashMap<&'static str, String>,
    pub(crate) content_type: Option<String>,
    expected_generation: Option<u64>,
    /// Who tries what, for the audit log.
    pub(crate) attempt: Attempt,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(
        route: &'static Route,
        parameters: HashMap<String, String>,
        identity: Option<Identity>,
        parts: &Parts,
        attempt: Attempt,
    ) -> Result<Self, Answer> {
        let mut query = HashMap::new();
        let asked = parts.uri.query().unwrap_or_default();
        for (name, value) in form_urlencoded::parse(asked.as_bytes()) {
            let mut known = route.parameters();
            let Some(parameter) = known.find(|parameter| parameter.name == name) else {
                let detail = format!("the parameter {name:?} is not known here");
                return Err(Answer::problem(400, detail));
            };
            if let Err(expected) = parameter.kind.check(&value) {
                let detail = format!("{name} is {expected}, not {value:?}");
                return Err(Answer::problem(400, detail));
            }
            if query.insert(parameter.name, value.into_owned()).is_some() {
                return Err(Answer::problem(400, format!("more than one {name}")));
            }
        }
        let mut required = route.parameters().filter(|parameter| parameter.is_required);
        if let Some(missing) = required.find(|parameter| !query.contains_key(parameter.name)) {
            let detail = format!("the parameter {} is needed", missing.name);
            return Err(Answer::problem(400, detail));
        }
        let content_type = header(&parts.headers, "content-type")?.map(|kind| {
            let kind = kind.split(';').next().unwrap_or_default();
            kind.trim().to_ascii_lowercase()
        });
        let call = Self {
            identity,
            route,
            parameters,
            query,
            content_type,
            expected_generation: expected(&parts.headers, route)?,
            attempt,
            body: Bytes::new(),
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

    /// A parameter of the query that is a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.query(name)?.parse().ok()
    }

    /// Whether everything may be told of.
    pub(crate) fn is_unconfined(&self) -> bool {
        let mut identity = self.identity.iter();
        identity.all(|identity| identity.scope.is_everything())
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

    /// The generation that the caller wants to be in force.
    pub(crate) fn expected_generation(&self) -> Option<u64> {
        self.expected_generation
    }

    /// The same call, whose change is to be made only to this generation.
    pub(crate) fn expecting(&self, generation: u64) -> Self {
        Self {
            expected_generation: Some(generation),
            ..self.clone()
        }
    }

    /// The parameters of the path.
    pub(crate) fn parameters(&self) -> &HashMap<String, String> {
        &self.parameters
    }

    /// Who did what, for the list of generations.
    fn cause(&self) -> String {
        let who = self.attempt.who.as_deref().unwrap_or("somebody");
        let what = self.attempt.what.split('?').next().unwrap_or_default();
        format!("{who}: {what}")
    }
}

/// The generation that `If-Match` asks for.
fn expected(headers: &HeaderMap, route: &Route) -> Result<Option<u64>, Answer> {
    let Some(tag) = header(headers, "if-match")?.filter(|_| route.changes()) else {
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
