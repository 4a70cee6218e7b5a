//! The head of a request: its first line and headers, and what of them is believed.

use percent_encoding::percent_decode_str;

use super::answer::Answer;
use super::limits::Limits;

/// What a request says before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// The path as it came, still percent-encoded.
    pub(crate) path: String,
    /// The query, decoded, in order.
    pub(crate) query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    pub(crate) body: Body,
    /// Whether the client waits to be told before it sends its body.
    pub(crate) expects_continue: bool,
    /// Whether the connection may go on afterwards.
    pub(crate) keep: bool,
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(u64),
    Chunked,
}

impl Head {
    /// The value of a header that is there once. Names are lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let (_, value) = headers.find(|(other, _)| other == name)?;
        Some(value)
    }

    /// How often a header is there.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.headers
            .iter()
            .filter(|(other, _)| other == name)
            .count()
    }

    /// Reads the head that ends at the end of `bytes`.
    pub(crate) fn read(bytes: &[u8], limits: &Limits) -> Result<Self, Answer> {
        // Where a head ends must be beyond doubt for everybody on the way: lines end with CR and LF, and not with LF alone.
        let mut line_feeds = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        if line_feeds.any(|(at, _)| at == 0 || bytes[at - 1] != b'\r') {
            return Err(Answer::problem(
                400,
                "a line ends without a carriage return",
            ));
        }
        let mut storage = vec![httparse::EMPTY_HEADER; limits.headers];
        let mut request = httparse::Request::new(&mut storage);
        let parsed = request.parse(bytes).map_err(|error| match error {
            httparse::Error::TooManyHeaders => {
                Answer::problem(431, format!("more than {} headers", limits.headers))
            }
            httparse::Error::Version => Answer::problem(505, "only HTTP/1.1 is spoken here"),
            error => Answer::problem(400, format!("not a request: {error}")),
        })?;
        let (true, Some(method), Some(target), Some(version)) = (
            parsed == httparse::Status::Complete(bytes.len()),
            request.method,
            request.path,
            request.version,
        ) else {
            return Err(Answer::problem(400, "not a request"));
        };
        let mut headers = Vec::with_capacity(request.headers.len());
        for header in request.headers.iter() {
            let value = std::str::from_utf8(header.value).map_err(|_| {
                Answer::problem(400, format!("the header {} is not text", header.name))
            })?;
            headers.push((
                header.name.to_ascii_lowercase(),
                value.trim_matches([' ', '\t']).to_owned(),
            ));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if !path.starts_with('/') {
            return Err(Answer::problem(400, "the target is not a path"));
        }
        let mut head = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            headers,
            body: Body::None,
            expects_continue: false,
            keep: version == 1,
        };
        head.settle(version)?;
        Ok(head)
    }

    /// What the headers say of the body and of the connection.
    fn settle(&mut self, version: u8) -> Result<(), Answer> {
        let once = |name: &str| match self.count(name) {
            0 | 1 => Ok(self.header(name)),
            _ => Err(Answer::problem(400, format!("more than one {name} header"))),
        };
        if version == 1 && once("host")?.is_none() {
            return Err(Answer::problem(400, "no host header"));
        }
        for name in ["authorization", "if-match", "content-type", "expect"] {
            once(name)?;
        }
        let length = once("content-length")?.map(str::to_owned);
        let body = match (once("transfer-encoding")?, length) {
            (None, None) => Body::None,
            (None, Some(length)) => {
                let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
                let length = length.parse().ok().filter(|_| plain);
                let length =
                    length.ok_or_else(|| Answer::problem(400, "content-length is not a number"))?;
                if length == 0 {
                    Body::None
                } else {
                    Body::Length(length)
                }
            }
            (Some(_), Some(_)) => {
                let detail = "content-length and transfer-encoding together";
                return Err(Answer::problem(400, detail));
            }
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") && version == 1 => {
                Body::Chunked
            }
            (Some(_), None) => {
                return Err(Answer::problem(
                    501,
                    "the only transfer-encoding is chunked",
                ));
            }
        };
        let expects_continue = match self.header("expect") {
            None => false,
            Some(what) if what.eq_ignore_ascii_case("100-continue") => true,
            Some(_) => return Err(Answer::problem(417, "only 100-continue can be expected")),
        };
        let closes = self
            .headers
            .iter()
            .filter(|(name, _)| name == "connection")
            .flat_map(|(_, value)| value.split(','))
            .any(|option| option.trim().eq_ignore_ascii_case("close"));
        self.body = body;
        self.expects_continue = expects_continue;
        self.keep = self.keep && !closes;
        Ok(())
    }
}

/// A piece of a path, decoded; `None` where it is not text.
pub(crate) fn decoded(piece: &str) -> Option<String> {
    let piece = percent_decode_str(piece).decode_utf8().ok()?;
    Some(piece.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Head, u16> {
        Head::read(text.as_bytes(), &Limits::default()).map_err(|answer| answer.status)
    }

    #[test]
    fn what_a_request_says() {
        let head = read(
            "PUT /api/v1/pipelines/a%20b?dry_run=true&x=1%262 HTTP/1.1\r\nHost: h\r\nContent-Length: 12\r\nExpect: 100-Continue\r\nConnection: x, close\r\n\r\n",
        )
        .expect("a request");
        assert_eq!(head.path, "/api/v1/pipelines/a%20b");
        let query = [("dry_run", "true"), ("x", "1&2")];
        assert_eq!(
            head.query,
            query.map(|(name, value)| (name.into(), value.into()))
        );
        assert_eq!(head.body, Body::Length(12));
        assert!(head.expects_continue && !head.keep);
        assert_eq!(decoded("a%20b").as_deref(), Some("a b"));
        assert_eq!(decoded("%ff"), None);
        let head = read("GET / HTTP/1.0\r\n\r\n").expect("a request");
        assert!(!head.keep && head.body == Body::None);
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        for (text, status) in [
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET http://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
            ("GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: h\r\n\r\n", 400),
            (
                "PUT / HTTP/1.1\r\nHost: h\n\nContent-Length: 1\r\n\r\n",
                400,
            ),
            (
                "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \u{a0}chunked\r\n\r\n",
                501,
            ),
            ("GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: h\r\nX: \u{e9}\u{7f}\r\n\r\n", 400),
            (
                "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
                400,
            ),
            ("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: \r\n\r\n", 400),
            (
                "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n",
                400,
            ),
            (
                "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                400,
            ),
            (
                "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
            ),
            (
                "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                501,
            ),
            ("PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
            ("PUT / HTTP/1.1\r\nHost: h\r\nExpect: cake\r\n\r\n", 417),
            (
                "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
                400,
            ),
        ] {
            assert_eq!(read(text).map(|_| ()), Err(status), "{text}");
        }
        let many = "X: y\r\n".repeat(64);
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n");
        assert_eq!(read(&text).map(|_| ()), Err(431));
    }
}
