//! What goes out and comes in, as JSON Schema.

use serde_json::{Value, json};

fn text() -> Value {
    json!({ "type": "string" })
}

fn maybe_text() -> Value {
    json!({ "type": ["string", "null"] })
}

fn texts() -> Value {
    list(text())
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn maybe_count() -> Value {
    json!({ "type": ["integer", "null"], "minimum": 0 })
}

fn maybe_number() -> Value {
    json!({ "type": ["number", "null"], "minimum": 0 })
}

fn truth() -> Value {
    json!({ "type": "boolean" })
}

fn one_of(names: &[&str]) -> Value {
    json!({ "type": "string", "enum": names })
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
        "cache_hits": count(), "cache_misses": count(), "counters": map(json!({ "type": "integer" })),
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

/// A dead letter.
fn letter() -> Value {
    let record = json!({
        "type": ["object", "null"],
        "description": "A record line; null for viewers, and where it is too long.",
    });
    object(json!({
        "key": text(), "partition": count(), "offset": count(), "failed_at_unix_ms": count(),
        "kind": text(), "message": text(), "pipeline": maybe_text(), "stage": maybe_count(), "module": maybe_text(),
        "module_sha256": maybe_text(), "generation": maybe_count(), "attempts": maybe_count(), "redriven": count(),
        "original_topic": maybe_text(), "can_go_back": truth(), "value_bytes": count(), "record": record,
    }))
}

fn letter_reasons() -> Value {
    list(object(
        json!({ "count": count(), "kind": text(), "module": text(), "message": text() }),
    ))
}

/// Every schema, by its name.
pub(super) fn all() -> Value {
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
            "ready": truth(), "state": state(), "reasons": list(reason), "waiting": texts(), "generation": count(),
        })),
        "Session": object(json!({
            "name": text(), "role": one_of(&["viewer", "operator", "admin"]), "pipelines": texts(),
        })),
        "Statistics": statistics(),
        "Pipelines": object(json!({
            "generation": count(),
            "pipelines": list(object(json!({
                "id": text(), "name": text(), "order": { "type": "integer" }, "enabled": truth(), "modules": texts(),
                "stages": list(object(json!({ "priority": count(), "parallel": truth(), "modules": texts() }))),
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
        "DeadLetterTopics": object(json!({
            "topics": list(object(json!({ "topic": text(), "records": maybe_count() }))),
        })),
        "DeadLetterSummary": object(json!({
            "topic": text(), "selected": count(), "others": count(), "nowhere_to_go": count(), "reasons": letter_reasons(),
        })),
        "DeadLetters": object(json!({
            "topic": text(), "next": maybe_text(), "is_cut": truth(), "letters": list(letter()),
        })),
        "Redriven": object(json!({
            "topic": text(), "dry_run": truth(), "selected": count(), "others": count(), "redriven": count(), "parked": count(),
            "refused": count(), "nowhere_to_go": count(), "reasons": letter_reasons(),
        })),
        "AuditLines": object(json!({
            "lines": list(json!({ "type": "object", "required": ["seq", "time", "prev", "event"] })), "next": maybe_count(),
        })),
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
            "fields": list(object(json!({ "pipeline": text(), "field": text(), "before": {}, "after": {} }))),
            "more_fields": count(),
        })),
    })
}
