//! What the URLs of servers have in common: who logs in, at which hosts, to what, with which settings; and how all of that is shown without its secrets.
//!
//! `[login@]host[:port][,host…][/path][?name=value&…]`, behind the scheme.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A URL behind its scheme, taken apart. Nothing is decoded.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) login: Option<&'a str>,
    hosts: &'a str,
    pub(crate) path: &'a str,
    query: &'a str,
}

/// What of a URL is not shown.
#[derive(Clone, Copy)]
pub(crate) struct Secrets {
    /// A login of one word is a secret, not a name.
    pub(crate) login: bool,
    /// Whether the value of the setting with this name is one.
    pub(crate) setting: fn(&str) -> bool,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(rest: &'a str) -> Self {
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold an `@` that nobody escaped, and a slash; a host holds neither.
        let (login, place) = match before.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, before),
        };
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        Self {
            login,
            hosts,
            path,
            query,
        }
    }

    /// Host and port of each; `port` where none is given. The error: what is wrong, with `missing` where there is no host.
    pub(crate) fn servers(&self, port: u16, missing: &str) -> Result<Vec<String>, String> {
        let mut servers = Vec::new();
        for host in self.hosts.split(',') {
            // An IPv6 address has colons of its own, inside brackets.
            let after = host.rfind(']').map_or(0, |bracket| bracket + 1);
            let (name, port) = match host[after..].rsplit_once(':') {
                Some((name, port)) => {
                    let number = port.parse::<u16>().ok().filter(|port| *port != 0);
                    let port = number.ok_or_else(|| format!("`{port}` is not a port"))?;
                    (&host[..after + name.len()], port)
                }
                None => (host, port),
            };
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(missing.to_owned());
            }
            servers.push(format!("{name}:{port}"));
        }
        Ok(servers)
    }

    /// Each setting, its value decoded.
    pub(crate) fn settings(&self) -> impl Iterator<Item = Result<(&'a str, String), String>> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((name, decoded(value)?))
        })
    }

    /// The URL with stars where a secret stands.
    pub(crate) fn shown(&self, scheme: &str, secrets: Secrets) -> String {
        let login = match self.login.map(|login| (login, login.split_once(':'))) {
            Some((_, Some((user, _)))) => format!("{user}:***@"),
            Some((_, None)) if secrets.login => "***@".to_owned(),
            Some((user, None)) => format!("{user}@"),
            None => String::new(),
        };
        let pairs = self
            .query
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, _)) if (secrets.setting)(name) => format!("{name}=***"),
                _ => pair.to_owned(),
            });
        let query = pairs.collect::<Vec<_>>().join("&");
        let slash = if self.path.is_empty() { "" } else { "/" };
        let mark = if query.is_empty() { "" } else { "?" };
        let Self { hosts, path, .. } = self;
        format!("{scheme}://{login}{hosts}{slash}{path}{mark}{query}")
    }
}

pub(crate) fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Cow::into_owned)
        .map_err(|_| "it is not UTF-8 once it is decoded".to_owned())
}
