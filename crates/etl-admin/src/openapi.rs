//! The OpenAPI document, written from the table of routes.
//!
//! What it says besides the table are the schemas of what goes out and comes in (`schemas`); the tests hold every answer to them.

mod schemas;

use serde_json::{Map, Value, json};

use crate::routes::{Effect, Kind, Parameter, ROUTES, Route, Takes};

/// The document, OpenAPI 3.1.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "etl",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Looks at a running engine and changes it. Every change is one swap of the whole configuration, has a generation, can be tried (`dry_run`) and made only to the generation that its author has seen (`If-Match`).",
        },
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "As `etl admin token create` prints it." },
                "certificate": { "type": "mutualTLS", "description": "One that `etl admin certificate allow` was told of." },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = route
        .path
        .split('/')
        .filter_map(|piece| piece.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({
                "name": name,
                "in": "path",
                "required": true,
                "schema": { "type": "string", "minLength": 1 },
            })
        })
        .collect();
    parameters.extend(route.parameters().map(parameter));
    let mut responses = Map::new();
    let kind = match route.answers {
        media if media.contains('/') => json!({ media: { "schema": { "type": "string" } } }),
        name => json!({ "application/json": { "schema": reference(name) } }),
    };
    responses.insert(
        "200".to_owned(),
        json!({ "description": route.summary, "content": kind }),
    );
    let mut refused = |status: &str, description: &str| {
        let content = json!({ "application/problem+json": { "schema": reference("Problem") } });
        let response = json!({ "description": description, "content": content });
        responses.insert(status.to_owned(), response);
    };
    refused("400", "The request is not well-formed.");
    refused("413", "The body is too large.");
    if route.path.contains('{') || route.role.is_some() {
        refused("404", "There is no such thing.");
    }
    if let Some(role) = route.role {
        refused("401", "No token, or none that is good.");
        refused(
            "403",
            &format!("The role {role} is needed, or it is out of reach."),
        );
        refused("429", "Too many wrong tokens.");
        refused("503", "Not now.");
    }
    if route.takes != Takes::Nothing {
        refused("415", "Another content-type is needed.");
        refused("422", "It cannot be used; `problems` says why.");
    }
    if route.answers == "Difference" {
        refused("422", "A generation that is kept cannot be read.");
    }
    if route.effect() != Effect::None {
        refused("507", "The disk is full.");
    }
    if route.changes() {
        parameters.push(json!({
            "name": "If-Match",
            "in": "header",
            "description": "The generation that must be in force, as the `etag` of what was read says.",
            "schema": { "type": "string" },
        }));
        refused("412", "Another generation is in force.");
        refused("422", "It cannot be used; `problems` says why.");
    }
    if route.path == "/readyz" {
        let content = json!({ "application/json": { "schema": reference("Ready") } });
        let response = json!({ "description": "No records are taken.", "content": content });
        responses.insert("503".to_owned(), response);
    }
    let too_large = json!({ "description": "The headers are too large. Nothing more is said." });
    responses.insert("431".to_owned(), too_large);
    let mut operation = json!({
        "operationId": operation_id(route),
        "summary": route.summary,
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(role) = route.role {
        operation["security"] = json!([{ "token": [] }, { "certificate": [] }]);
        operation["x-role"] = role.name().into();
    }
    if let Some(content) = body(route.takes) {
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation
}

/// `put_pipelines_id`: what a generated client calls it; `get_page` for the page, whose path has no words.
fn operation_id(route: &Route) -> String {
    let path = route
        .path
        .trim_start_matches("/api/v1")
        .replace(['{', '}'], "");
    let words = path.split(['/', '.']).filter(|word| !word.is_empty());
    let mut words: Vec<&str> = words.collect();
    if words.is_empty() {
        words.push("page");
    }
    format!("{}_{}", route.method.to_lowercase(), words.join("_"))
}

fn parameter(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Integer(least, most) => {
            json!({ "type": "integer", "minimum": least, "maximum": most })
        }
        Kind::Fraction => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        Kind::OneOf(names) => json!({ "type": "string", "enum": names }),
    };
    json!({
        "name": parameter.name,
        "in": "query",
        "required": parameter.is_required,
        "description": parameter.summary,
        "schema": schema,
    })
}

fn body(takes: Takes) -> Option<Value> {
    let binary = json!({ "schema": { "type": "string", "format": "binary" } });
    match takes {
        Takes::Nothing => None,
        Takes::Document => Some(json!({
            "application/json": { "schema": { "type": "object", "description": "As `etl schema` describes it." } },
            "application/toml": { "schema": { "type": "string" } },
        })),
        Takes::Json(name) => Some(json!({ "application/json": { "schema": reference(name) } })),
        Takes::Wasm => Some(json!({
            "application/wasm": binary.clone(),
            "application/octet-stream": binary,
        })),
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}
