//! What goes back to a client.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub(crate) const JSON: &str = "application/json";
/// RFC 9457.
const PROBLEM: &str = "application/problem+json";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// A status, headers and a body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    kind: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// The generation that its tag names.
    pub(crate) fn generation(&self) -> Option<u64> {
        let mut headers = self.headers.iter();
        let (_, tag) = headers.find(|(name, _)| *name == "etag")?;
        tag.trim_matches('"').parse().ok()
    }

    /// A body of a kind, with 200.
    pub(crate) fn new(kind: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            kind,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// JSON, with 200.
    pub(crate) fn json(value: &Value) -> Self {
        Self::new(JSON, format!("{value}\n"))
    }

    /// What is wrong, as RFC 9457 has it.
    pub(crate) fn problem(status: u16, detail: impl Into<String>) -> Self {
        Self::problem_with(status, detail, json!({}))
    }

    /// What is wrong, with more fields.
    pub(crate) fn problem_with(status: u16, detail: impl Into<String>, mut more: Value) -> Self {
        let title = StatusCode::from_u16(status).ok();
        let title = title.and_then(|status| status.canonical_reason());
        if let Some(fields) = more.as_object_mut() {
            fields.insert("title".to_owned(), title.unwrap_or("Other").into());
            fields.insert("status".to_owned(), status.into());
            fields.insert("detail".to_owned(), detail.into().into());
        }
        let mut answer = Self::new(PROBLEM, format!("{more}\n"));
        answer.status = status;
        answer
    }

    /// What it says is wrong, if that is what it is.
    pub(crate) fn detail(&self) -> String {
        let value: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let detail = value["detail"].as_str().unwrap_or_default();
        let messages = value["problems"].as_array().into_iter().flatten();
        let messages = messages.filter_map(|problem| problem["message"].as_str());
        // The first ones are enough to know what it was about.
        let messages: Vec<&str> = messages.take(3).collect();
        if messages.is_empty() {
            detail.to_owned()
        } else {
            messages.join("; ")
        }
    }

    /// The JSON that it is, for the audit log.
    pub(crate) fn for_the_log(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The same with another status.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same with a header more.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        // Answers are for the one who asked, now, and are what they say they are.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        for (name, value) in self.headers {
            // None of our values has a line break; one that did would be a header of somebody else's making.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}
