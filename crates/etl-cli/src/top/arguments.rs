//! What can be typed after `etl top`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

const HELP: &str = "\
It asks the API of `etl run --admin` for its figures; rates are differences between two answers.

Keys:
  q, Esc, Ctrl-C   end              p       pause, and go on
  s                sort by another  r       sort the other way round
  /                only what has a text in its name; Enter keeps it, Esc takes it back
  Tab              the other table  ↑ ↓ PgUp PgDn Home End  move in it

Exit codes:
  0 done   1 the API cannot be reached or refuses   2 wrong arguments   130 Ctrl-C with --json

Examples:
  etl admin token create --role viewer --name top > top.token
  etl top --token-file top.token
  etl top --url https://engine:9400 --ca ca.pem --token-file top.token
  etl top --once --sort errors
      A table, for scripts and tickets.
  etl top --json | jq .pipelines.orders.in_per_second
      One object every interval.";

/// Watch the pipelines and modules of a running engine
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct TopOptions {
    #[command(flatten)]
    pub api: ApiOptions,

    /// The time between two answers, as in 1s or 500ms
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    pub interval: Duration,

    /// Print the figures once as a table, and end; it takes one interval
    #[arg(long)]
    pub once: bool,

    /// Print the figures as JSON, one object a line: every interval, or once
    #[arg(long)]
    pub json: bool,

    /// What is first
    #[arg(long, value_name = "BY", default_value = "name")]
    pub sort: Sort,

    /// Only pipelines and modules that have this in their name
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub filter: String,
}

/// Which API, and who asks
#[derive(Debug, Clone, Args)]
pub struct ApiOptions {
    /// The API
    #[arg(
        long,
        value_name = "URL",
        env = "ETL_ADMIN_URL",
        default_value = "http://127.0.0.1:9400"
    )]
    pub url: ApiUrl,

    /// A file that holds a token [default: the token in the variable ETL_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,

    /// The authority that issued the API's certificate, as a PEM file
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// A client certificate to show in the place of a token, as a PEM file
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,

    /// Its private key, as a PEM file
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

/// What a table is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// By name
    Name,
    /// Most records in a second first
    In,
    /// Most records out a second first
    Out,
    /// Most failures a second first, and then most failures
    Errors,
    /// Slowest first
    Latency,
}

impl Sort {
    /// The next one, when a key is pressed.
    pub fn next(self) -> Self {
        match self {
            Self::Name => Self::In,
            Self::In => Self::Out,
            Self::Out => Self::Errors,
            Self::Errors => Self::Latency,
            Self::Latency => Self::Name,
        }
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::In => "in",
            Self::Out => "out",
            Self::Errors => "errors",
            Self::Latency => "latency",
        }
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text)
        .map_err(|_| "write a time, as in 1s or 500ms".to_owned())?;
    if (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval) {
        Ok(interval)
    } else {
        Err("from 100ms to 1h".to_owned())
    }
}

/// Where an API is: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiUrl {
    pub is_tls: bool,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
}

impl ApiUrl {
    /// Host and port, as a request names them.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority())
    }
}

impl FromStr for ApiUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "write http://HOST:PORT or https://HOST:PORT".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let is_tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let authority = rest.strip_suffix("/api/v1").unwrap_or(rest);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '@', '?', '#']) {
            return Err(wrong());
        }
        let is_bracketed = authority.starts_with('[');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !is_bracketed || host.ends_with(']') => {
                (host, Some(port.parse().map_err(|_| wrong())?))
            }
            _ => (authority, None),
        };
        let host = match is_bracketed {
            true => host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']')),
            false => Some(host).filter(|host| !host.contains(':')),
        };
        let host = host.filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        Ok(Self {
            is_tls,
            host: host.to_owned(),
            port: port.unwrap_or(if is_tls { 443 } else { 80 }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for (text, written) in [
            ("http://127.0.0.1:9400", "http://127.0.0.1:9400"),
            ("https://engine/", "https://engine:443"),
            ("http://engine:1/api/v1", "http://engine:1"),
            ("http://[::1]:9400", "http://[::1]:9400"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            let url: ApiUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), written);
        }
        for text in [
            "engine:1",
            "ftp://x",
            "http://",
            "http://u@h",
            "http://h:x",
            "http://::1",
        ] {
            text.parse::<ApiUrl>().expect_err(text);
        }
    }
}
