//! The OpenAPI document, written from the table of routes.
//!
//! What is here besides the table are the schemas of what goes out and comes in; the tests hold every answer to them.

use serde_json::{Map, Value, json};

use crate::routes::{Kind, Parameter, ROUTES, Route, Takes};

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
            "schemas": schemas(),
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
    refused("431", "The headers are too large.");
    if let Some(role) = route.role {
        refused("401", "No token, or none that is good.");
        refused(
            "403",
            &format!("The role {role} is needed, or it is out of reach."),
        );
        refused("404", "There is no such thing.");
        refused("429", "Too many wrong tokens.");
        refused("503", "Not now.");
    }
    if route.takes != Takes::Nothing {
        refused("415", "Another content-type is needed.");
        refused("422", "It cannot be used; `problems` says why.");
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
        refused("507", "The disk is full.");
    }
    if route.path == "/readyz" {
        let content = json!({ "application/json": { "schema": reference("Ready") } });
        let response = json!({ "description": "No records are taken.", "content": content });
        responses.insert("503".to_owned(), response);
    }
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

/// `put_pipelines_id`: what a generated client calls it.
fn operation_id(route: &Route) -> String {
    let path = route
        .path
        .trim_start_matches("/api/v1")
        .replace(['{', '}'], "");
    let words = path.split(['/', '.']).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
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
        Takes::Wasm => Some(json!({ "application/wasm": binary })),
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An object of which every field is there, and no other.
fn object(fields: Value) -> Value {
    let names: Vec<&String> = fields
        .as_object()
        .map(|fields| fields.keys().collect())
        .unwrap_or_default();
    json!({ "type": "object", "required": names, "properties": fields, "additionalProperties": false })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// An object whose fields are named by ids.
fn map(values: Value) -> Value {
    json!({ "type": "object", "additionalProperties": values })
}

/// The answer of `/api/v1/statistics`.
fn statistics() -> Value {
    let text = || json!({ "type": "string" });
    let count = || json!({ "type": "integer", "minimum": 0 });
    let maybe_count = || json!({ "type": ["integer", "null"], "minimum": 0 });
    let maybe_number = || json!({ "type": ["number", "null"], "minimum": 0 });
    let one_of = |names: &[&str]| json!({ "type": "string", "enum": names });
    let timed = |mut more: Value| {
        more["timed"] = count();
        for quantile in ["p50_seconds", "p95_seconds", "p99_seconds", "p999_seconds"] {
            more[quantile] = maybe_number();
        }
        object(more)
    };
    let pipeline = timed(json!({
        "records_in": count(), "records_out": count(), "forwarded": count(), "stopped": count(), "dropped": count(),
        "dead_lettered": count(), "dead_letter_copies": count(), "skipped": count(), "conflicts": count(),
        "dead_letters_by_kind": map(count()),
        "stages": list(timed(json!({ "priority": count() }))),
    }));
    let module = timed(json!({
        "records_in": count(), "records_out": count(), "kept": count(), "changed": count(), "dropped": count(),
        "failed": count(), "not_selected": count(), "dead_lettered": count(), "errors_by_kind": map(count()),
        "instances": count(), "instances_allowed": count(), "memory_bytes": count(),
        "cache_hits": count(), "cache_misses": count(),
    }));
    object(json!({
        "generation": count(), "time_unix_ms": count(), "ready": { "type": "boolean" }, "state": one_of(&["ok", "degraded"]),
        "lanes": count(),
        "records_in": count(), "records_out": count(), "passed_through": count(), "dropped": count(), "emitted": count(),
        "dead_lettered": count(), "stopped": count(), "skipped": count(), "retries": count(),
        "in_flight_records": count(), "in_flight_bytes": count(), "waiting_by_class": list(count()), "retrying": count(),
        "reloads": count(), "reloads_refused": count(),
        "instances": count(), "instances_created": count(), "instance_memory_bytes": count(),
        "instance_memory_limit_bytes": maybe_count(), "process_memory_bytes": maybe_count(),
        "process_cpu_seconds": maybe_number(),
        "pipelines": map(pipeline),
        "modules": map(module),
        "circuits": list(object(json!({
            "pipeline": text(), "module": text(), "state": one_of(&["Closed", "HalfOpen", "Open"]),
        }))),
    }))
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let maybe_text = || json!({ "type": ["string", "null"] });
    let count = || json!({ "type": "integer", "minimum": 0 });
    let maybe_count = || json!({ "type": ["integer", "null"], "minimum": 0 });
    let truth = || json!({ "type": "boolean" });
    let texts = || list(text());
    let one_of = |names: &[&str]| json!({ "type": "string", "enum": names });
    let config_problem = object(json!({
        "severity": one_of(&["error", "warning"]),
        "file": text(), "line": maybe_count(), "column": maybe_count(),
        "path": text(), "message": text(), "hint": maybe_text(),
    }));
    let handled = object(json!({ "records": count(), "failed": count() }));
    let trial = object(json!({
        "running": truth(), "mode": one_of(&["canary", "shadow"]), "percent": count(),
        "stable_sha256": maybe_text(), "canary_sha256": maybe_text(),
        "stable": handled, "canary": handled, "different": count(), "skipped": count(),
    }));
    let module = object(json!({
        "id": text(), "file": text(), "sha256": maybe_text(), "used_by": texts(), "trials": list(trial),
    }));
    let reason = object(json!({
        "alert": text(), "pipeline": maybe_text(), "module": maybe_text(), "message": text(),
    }));
    let state = || one_of(&["ok", "degraded"]);
    let settings = json!({
        "percent": { "type": "integer", "minimum": 1, "maximum": 100 },
        "mode": one_of(&["canary", "shadow"]),
        "max_error_increase": { "type": "number", "minimum": 0, "maximum": 1 },
        "min_samples": { "type": "integer", "minimum": 1, "maximum": 1_000_000_000 },
    });
    json!({
        "OpenApi": { "type": "object", "required": ["openapi", "info", "paths"] },
        "Problem": {
            "type": "object",
            "required": ["title", "status", "detail"],
            "properties": {
                "title": text(), "status": count(), "detail": text(),
                "errors": count(), "warnings": count(), "problems": list(config_problem.clone()),
            },
            "additionalProperties": false,
        },
        "Changed": object(json!({
            "generation": count(), "dry_run": truth(), "warnings": list(config_problem.clone()),
        })),
        "Report": object(json!({
            "errors": count(), "warnings": count(), "problems": list(config_problem),
        })),
        "Ready": object(json!({ "ready": truth(), "state": state() })),
        "Health": object(json!({
            "ready": truth(), "state": state(), "reasons": list(reason), "generation": count(),
        })),
        "Session": object(json!({
            "name": text(), "role": one_of(&["viewer", "operator", "admin"]), "pipelines": texts(),
        })),
        "Statistics": statistics(),
        "Pipelines": object(json!({
            "generation": count(),
            "pipelines": list(object(json!({
                "id": text(), "name": text(), "order": { "type": "integer" }, "enabled": truth(), "modules": texts(),
            }))),
        })),
        "Pipeline": object(json!({ "generation": count(), "pipeline": { "type": "object" } })),
        "Modules": object(json!({ "generation": count(), "modules": list(module.clone()) })),
        "Module": object(json!({ "generation": count(), "module": module })),
        "CanarySettings": { "type": "object", "properties": settings, "additionalProperties": false },
        "Record": {
            "type": "object",
            "required": ["topic"],
            "properties": { "topic": text() },
            "description": "A record line, as `etl run --help` describes it.",
        },
        "Explanation": {
            "type": "object",
            "required": ["topic", "generation", "pipelines"],
            "properties": { "topic": text(), "generation": count(), "pipelines": list(json!({ "type": "object" })) },
            "description": "As `etl explain --json` prints it.",
        },
        "Generations": object(json!({
            "generation": count(),
            "generations": list(object(json!({
                "generation": count(), "since_unix_ms": { "type": "integer" }, "cause": text(), "pipelines": count(),
            }))),
        })),
        "Difference": object(json!({
            "from": count(), "to": count(),
            "pipelines_added": texts(), "pipelines_removed": texts(), "pipelines_changed": texts(),
            "modules_added": texts(), "modules_removed": texts(), "modules_changed": texts(),
            "settings_changed": truth(),
        })),
    })
}
