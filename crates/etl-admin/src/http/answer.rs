//! What goes back to a client.

use serde_json::{Value, json};

pub(crate) const JSON: &str = "application/json";
/// RFC 9457.
const PROBLEM: &str = "application/problem+json";
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// A status, headers and a body.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
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
        if let Some(fields) = more.as_object_mut() {
            fields.insert("title".to_owned(), reason(status).into());
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

    /// The status line and the headers, up to the body.
    pub(crate) fn head(&self, keep: bool) -> String {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n",
            self.status,
            reason(self.status),
            self.kind,
            self.body.len()
        );
        for (name, value) in &self.headers {
            // None of our values has a line break; one that did would be a header of somebody else's making.
            let value = value.replace(['\r', '\n'], " ");
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        // Answers are for the one who asked, now, and are what they say they are.
        head.push_str("cache-control: no-store\r\nx-content-type-options: nosniff\r\n");
        head.push_str(if keep {
            "\r\n"
        } else {
            "connection: close\r\n\r\n"
        });
        head
    }
}

/// The words that go with a status.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Other",
    }
}
