//! The page on operations says of routes and limits what the server does.

use etl_admin::{Limits, Role, routes};

const PAGE: &str = include_str!("../../../../docs/operations.md");

#[test]
fn every_route_has_its_row() {
    let expected: Vec<String> = routes()
        .map(|route| {
            let role = route.role.map_or("–", Role::name);
            let (method, path, summary) = (route.method, route.path, route.summary);
            format!("| {method} | `{path}` | {role} | {summary} |")
        })
        .collect();
    let methods = ["GET", "PUT", "POST", "PATCH", "DELETE"];
    let rows: Vec<&str> = PAGE
        .lines()
        .filter(|line| {
            methods
                .iter()
                .any(|method| line.starts_with(&format!("| {method} |")))
        })
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn every_limit_has_its_row() {
    let limits = Limits::default();
    let bytes = |count: usize| format!("{count} bytes");
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
    for (what, value) in [
        ("connections at once", limits.connections.to_string()),
        (
            "of them from one address",
            limits.connections_of_one.to_string(),
        ),
        (
            "the first line and headers of a request",
            bytes(limits.head_bytes),
        ),
        ("headers of a request", limits.headers.to_string()),
        (
            "for headers to be complete, and for a connection to become a secure one",
            seconds(limits.head_time),
        ),
        ("a document or a record", bytes(limits.document_bytes)),
        ("a module", bytes(limits.module_bytes)),
        (
            "all bodies together that are not answered yet",
            bytes(limits.all_bodies_bytes),
        ),
        ("for a body to come", seconds(limits.body_time)),
        ("for an answer to be taken", seconds(limits.answer_time)),
    ] {
        let row = format!("| {what} | {value} |");
        assert!(
            PAGE.lines().any(|line| line.starts_with(&row)),
            "no row {row}"
        );
    }
}
