//! Adds where an address is, from a table of networks.
//!
//! The address (IPv4 or IPv6) stands in a header. The longest network that contains it wins, and what the table says of it is added to
//! the value, if that is a JSON object, and otherwise as a header, so that a line of text stays what it is. Addresses that no table can place
//! (private, loopback, link-local, documentation) get a `scope` instead, unless the table knows them. The header
//! `geo-status` says what came of it: `found`, `special`, `unknown` or `no-address`; a header that is not an address fails the record.
//!
//! `custom_config`, all optional:
//!
//! | field | default | |
//! |---|---|---|
//! | `ip_header` | `"client_ip"` | the header with the address; of a list ("client, proxy") the first, with or without a port |
//! | `field` | `"geo"` | the field of the value, or the header, that is added |
//! | `networks` | none | network to any JSON object |
//!
//! ```json
//! { "networks": { "81.2.69.0/24": { "country": "GB", "city": "London" }, "2001:218::/32": { "country": "JP" } } }
//! ```
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use etl_sdk::prelude::*;
use etl_sdk::serde_json::Map;
use ipnet::IpNet;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    ip_header: String,
    field: String,
    networks: BTreeMap<String, Map<String, Value>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ip_header: "client_ip".to_owned(),
            field: "geo".to_owned(),
            networks: BTreeMap::new(),
        }
    }
}

type Addition = Map<String, Value>;

#[derive(Deserialize)]
#[serde(try_from = "Settings")]
struct Config {
    ip_header: String,
    field: String,
    /// What is added for each: the field, and in it what the table says.
    networks: BTreeMap<IpNet, Addition>,
    /// The prefix lengths that occur: a lookup costs one search for each.
    lengths: BTreeSet<u8>,
}

impl TryFrom<Settings> for Config {
    type Error = String;

    fn try_from(settings: Settings) -> Result<Self, String> {
        let mut networks = BTreeMap::new();
        for (text, place) in settings.networks {
            let addition = Map::from_iter([(settings.field.clone(), place.into())]);
            let network: IpNet = text
                .parse()
                .map_err(|_| format!("{text:?} is not a network such as 192.0.2.0/24"))?;
            if networks.insert(network.trunc(), addition).is_some() {
                return Err(format!("the network {} is there twice", network.trunc()));
            }
        }
        let lengths = networks.keys().map(IpNet::prefix_len).collect();
        Ok(Self {
            ip_header: settings.ip_header,
            field: settings.field,
            networks,
            lengths,
        })
    }
}

impl Config {
    /// What the longest network that contains the address says.
    fn find(&self, address: IpAddr) -> Option<&Addition> {
        let network = |length: &u8| {
            IpNet::new(address, *length)
                .ok()
                .and_then(|network| self.networks.get(&network.trunc()))
        };
        self.lengths.iter().rev().find_map(network)
    }
}

#[transform]
fn geolocation_enricher(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
    out.add_header("etl-path", env!("CARGO_PKG_NAME"));
    let Some(text) = record.header(&config.ip_header) else {
        out.set_header("geo-status", "no-address");
        return Ok(());
    };
    let address = parse(text).ok_or_else(|| {
        Error::permanent(format!(
            "header {}: {text:?} is not an IP address",
            config.ip_header
        ))
    })?;
    let field = &config.field;
    let special = |scope| Map::from_iter([(field.clone(), json!({ "scope": scope }))]);
    let (status, addition) = match config.find(address) {
        Some(addition) => ("found", Some(Cow::Borrowed(addition))),
        None => match scope(address) {
            Some(scope) => ("special", Some(Cow::Owned(special(scope)))),
            None => ("unknown", None),
        },
    };
    out.set_header("geo-status", status);
    if let Some(addition) = addition {
        match record.json_object::<serde::de::IgnoredAny>() {
            Ok(_) => out.merge_patch(&addition)?,
            Err(_) => out.set_header(field, addition[field].to_string()),
        }
    }
    Ok(())
}

/// The first of a list, with or without port and brackets; an IPv4 address in IPv6 clothes is an IPv4 address.
fn parse(text: &str) -> Option<IpAddr> {
    let first = text.split(',').next()?.trim();
    let bare = first
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(first);
    let address = bare
        .parse()
        .or_else(|_| bare.parse::<SocketAddr>().map(|socket| socket.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

/// Addresses that are nowhere in particular.
fn scope(address: IpAddr) -> Option<&'static str> {
    let documentation = ["2001:db8::/32", "3fff::/20"];
    let within = |networks: &[&str]| {
        networks.iter().any(|network| {
            network
                .parse::<IpNet>()
                .is_ok_and(|network| network.contains(&address))
        })
    };
    match address {
        _ if address.is_loopback() => Some("loopback"),
        _ if address.is_unspecified() => Some("unspecified"),
        _ if address.is_multicast() => Some("multicast"),
        IpAddr::V4(v4) if v4.is_private() => Some("private"),
        IpAddr::V4(v4) if v4.is_link_local() => Some("link-local"),
        IpAddr::V4(v4) if v4.is_documentation() => Some("documentation"),
        IpAddr::V6(v6) if v6.is_unique_local() => Some("private"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(_) if within(&documentation) => Some("documentation"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etl_sdk::testing::{Outcome, TestRecord, config, run};

    fn table() -> Value {
        json!({ "networks": {
            "81.2.69.0/24": { "country": "GB", "city": "London" },
            "81.2.0.0/16": { "country": "GB" },
            "2001:218::/32": { "country": "JP" },
            "10.1.0.0/16": { "country": "our lab" },
        } })
    }

    fn locate(address: &str, config: Value) -> Outcome {
        run(
            geolocation_enricher,
            TestRecord::new("events.web.click")
                .value(r#"{"user":1}"#)
                .header("client_ip", address),
            config,
        )
    }

    #[test]
    fn the_longest_network_wins() {
        let cases = [
            (
                "81.2.69.142",
                "found",
                json!({ "country": "GB", "city": "London" }),
            ),
            ("81.2.70.1", "found", json!({ "country": "GB" })),
            ("2001:218::1", "found", json!({ "country": "JP" })),
            ("[2001:218::1]:443", "found", json!({ "country": "JP" })),
            ("::ffff:81.2.70.1", "found", json!({ "country": "GB" })),
            (
                " 81.2.70.1:8080, 10.0.0.1",
                "found",
                json!({ "country": "GB" }),
            ),
            ("10.1.2.3", "found", json!({ "country": "our lab" })),
            ("10.2.0.1", "special", json!({ "scope": "private" })),
            (
                "2001:db8::1",
                "special",
                json!({ "scope": "documentation" }),
            ),
        ];
        for (address, status, geo) in cases {
            let outcome = locate(address, table());
            assert_eq!(
                outcome.json(),
                json!({ "user": 1, "geo": geo }),
                "{address}"
            );
            assert_eq!(outcome.headers("geo-status"), [status], "{address}");
            assert_eq!(outcome.headers("etl-path"), ["geolocation-enricher"]);
        }
    }

    #[test]
    fn an_address_that_nobody_knows_leaves_the_value_alone() {
        for (config, address) in [
            (table(), "8.8.8.8"),
            (json!(null), "81.2.69.142"),
            (table(), "2001:4860::8888"),
        ] {
            let outcome = locate(address, config);
            assert_eq!(
                (outcome.text(), outcome.header("geo-status")),
                (r#"{"user":1}"#, Some("unknown"))
            );
        }
        let outcome = run(
            geolocation_enricher,
            TestRecord::new("t").value("{}"),
            table(),
        );
        assert_eq!(
            (outcome.text(), outcome.header("geo-status")),
            ("{}", Some("no-address"))
        );
    }

    #[test]
    fn a_value_that_is_no_object_gets_a_header() {
        for value in ["GET / 200", "[1]", "{broken"] {
            let outcome = run(
                geolocation_enricher,
                TestRecord::new("logs.web.access")
                    .value(value)
                    .header("client_ip", "81.2.70.1"),
                table(),
            );
            assert_eq!(
                (outcome.text(), outcome.header("geo")),
                (value, Some(r#"{"country":"GB"}"#))
            );
        }
    }

    #[test]
    fn what_is_not_an_address_fails() {
        for bad in ["", "localhost", "300.1.1.1", "1.2.3"] {
            let outcome = locate(bad, table());
            assert_eq!(
                outcome.failure().expect("a failure").message,
                format!("header client_ip: {bad:?} is not an IP address")
            );
        }
    }

    #[test]
    fn a_table_that_is_wrong_is_refused() {
        let refused = |networks: Value| {
            config::<Config>(json!({ "networks": networks }))
                .err()
                .expect("refused")
        };
        assert!(refused(json!({ "10.0.0.0/33": {} })).contains("\"10.0.0.0/33\" is not a network"));
        assert!(
            refused(json!({ "10.0.0.1/8": {}, "10.0.0.0/8": {} }))
                .contains("10.0.0.0/8 is there twice")
        );
    }
}
