//! A module in a stage: its filters, conditions, limits and circuit breaker.

use serde_json::{Value as Json, json};

use super::{GIB, HOUR_MS, HOUR_SECONDS, KIB, MAX_INSTANCES, file_path, identifier, sha256};
use crate::MAX_PATTERN_BYTES;
use crate::model::{
    Canary, CanaryMode, CircuitBreaker, Condition, FilterKind, FilterTree, InstanceConfig,
    Isolation, ModuleUse, Operator, Subject, TopicFilter,
};
use crate::reader::{
    Fields, Shape, boolean, choice, fraction, integer, list, map_text, milliseconds, open, seconds,
    settings, table,
};
use crate::tree::{Node, Value};

/// How a flat list of filters is read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum FilterLogic {
    #[default]
    Any,
    All,
}

const FILTER_LOGICS: &[(&str, FilterLogic)] =
    &[("any", FilterLogic::Any), ("all", FilterLogic::All)];

/// What a condition looks at, before the name of it is known.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ConditionKind {
    #[default]
    HeaderValue,
    PayloadField,
    MessageSize,
    MessageAge,
}

const CONDITION_KINDS: &[(&str, ConditionKind)] = &[
    ("HeaderValue", ConditionKind::HeaderValue),
    ("PayloadField", ConditionKind::PayloadField),
    ("MessageSize", ConditionKind::MessageSize),
    ("MessageAge", ConditionKind::MessageAge),
];

pub(super) fn module_use(fields: &mut Fields<'_>) -> ModuleUse {
    let module_id = fields.required(
        "module_id",
        "The module: the id of a declared one, or the name of a file in `modules_dir`.",
        identifier(),
    );
    let filter = filters(fields);
    let conditions = fields
        .optional(
            "conditional_rules",
            "Tests of the record; all must hold. By default there are none, and the module always applies.",
            list(0, table("ConditionalRule", "a conditional rule", condition)),
        )
        .unwrap_or_default();
    ModuleUse {
        module_id,
        filter,
        conditions,
        instance: fields.section(
            "instance_config",
            "Limits and settings of the module's instances.",
            table("InstanceConfig", "`instance_config`", instance_config),
        ),
        isolation: fields.or(
            "isolation",
            "What a record may see of those before it in the module's memory: whatever is there (`instance`), nothing of earlier batches (`batch`), nothing at all (`record`).",
            "instance",
            choice(Isolation::NAMES),
        ),
        circuit_breaker: fields.optional(
            "circuit_breaker",
            "When to stop calling a module that keeps failing. By default never; an empty table takes every default.",
            table("CircuitBreaker", "`circuit_breaker`", circuit_breaker),
        ),
        path: fields.path(),
    }
}

// ---- Topic filters

fn filters(fields: &mut Fields<'_>) -> FilterTree {
    let flat = fields
        .optional(
            "topic_filters",
            "Which topics select the module. By default, and where empty, every topic.",
            list(0, table("TopicFilter", "a topic filter", topic_filter)),
        )
        .unwrap_or_default();
    let logic = fields.or(
        "filter_logic",
        "Whether one of the `topic_filters` must match (`any`) or each of them (`all`).",
        "any",
        choice(FILTER_LOGICS),
    );
    let nested = fields.optional(
        "filter",
        "Topic filters under any, all and not, instead of `topic_filters`.",
        filter_table(),
    );
    fields.rule("not", json!({ "required": ["filter", "topic_filters"] }));
    if fields.has("filter") && fields.has("topic_filters") {
        fields.error(
            "filter",
            "`filter` and `topic_filters` are both given",
            "write the list as `filter = { any = […] }`".to_owned(),
        );
    }
    let tree = match (nested, logic) {
        (Some(nested), _) => nested,
        (None, _) if flat.is_empty() => FilterTree::Every,
        (None, FilterLogic::Any) => {
            FilterTree::Any(flat.into_iter().map(FilterTree::Leaf).collect())
        }
        (None, FilterLogic::All) => {
            FilterTree::All(flat.into_iter().map(FilterTree::Leaf).collect())
        }
    };
    if fields.is_clean() {
        if logic == FilterLogic::All && fields.has("filter") {
            fields.warning(
                "filter_logic",
                "it has no effect on `filter`",
                "say `all` in the `filter` itself".to_owned(),
            );
        }
        negated_among_others(fields, &tree);
        if crate::reach::never(&tree) {
            fields.warning(
                if fields.has("filter") {
                    "filter"
                } else {
                    "topic_filters"
                },
                "no topic can match: the module is never reached",
                "remove the module, or what excludes every topic".to_owned(),
            );
        }
    }
    tree
}

/// Warns of `not A` among others in a list of which one is enough: it matches nearly everything.
fn negated_among_others(fields: &mut Fields<'_>, tree: &FilterTree) {
    match tree {
        FilterTree::Any(children) => {
            for child in children.iter().filter(|_| children.len() > 1) {
                let negated = match child {
                    FilterTree::Leaf(filter) if filter.negate => filter.path.key("negate"),
                    FilterTree::Not(inner) => match inner.as_ref() {
                        FilterTree::Leaf(filter) if !filter.negate => filter.path.clone(),
                        _ => continue,
                    },
                    _ => continue,
                };
                fields.warning_at(
                    &negated,
                    "a negated filter among others of which one is enough matches nearly every topic",
                    "did you mean all of them? Then set `filter_logic = \"all\"`, or use `all` in the `filter`".to_owned(),
                );
            }
            children
                .iter()
                .for_each(|child| negated_among_others(fields, child));
        }
        FilterTree::All(children) => children
            .iter()
            .for_each(|child| negated_among_others(fields, child)),
        FilterTree::Not(child) => negated_among_others(fields, child),
        FilterTree::Every | FilterTree::Leaf(_) => {}
    }
}

fn topic_filter(fields: &mut Fields<'_>) -> TopicFilter {
    let kind = fields.required(
        "filter_type",
        "The language of the pattern.",
        choice(FilterKind::NAMES),
    );
    let pattern = fields.required("pattern", "What the topic is compared with.", pattern());
    single_filter(fields, kind, pattern)
}

fn single_filter(fields: &mut Fields<'_>, kind: FilterKind, pattern: String) -> TopicFilter {
    let mut filter = TopicFilter {
        kind,
        pattern,
        case_sensitive: fields.or(
            "case_sensitive",
            "Otherwise letters match whatever their case.",
            true,
            boolean(),
        ),
        negate: fields.or("negate", "Inverts this one filter.", false, boolean()),
        path: fields.path(),
    };
    if fields.is_clean() && filter.kind == FilterKind::Exact {
        if filter.pattern == "*" {
            fields.warning(
                "pattern",
                "`Exact` \"*\" is read as every topic",
                "leave `topic_filters` out, or write `filter_type = \"Wildcard\"`".to_owned(),
            );
            filter.kind = FilterKind::Wildcard;
        } else if filter.pattern.contains('*') {
            fields.warning(
                "pattern",
                "`*` stands for itself in an `Exact` filter",
                "did you mean `filter_type = \"Wildcard\"`?".to_owned(),
            );
        }
    }
    filter
}

fn filter_table() -> impl Shape<Value = FilterTree> {
    table("Filter", "a filter", filter_tree)
}

fn filter_tree(fields: &mut Fields<'_>) -> FilterTree {
    let any = fields.optional("any", "One of these must match.", list(1, filter_table()));
    let all = fields.optional("all", "Each of these must match.", list(1, filter_table()));
    let not = fields.optional("not", "This must not match.", filter_table());
    let kind = fields.optional(
        "filter_type",
        "The language of the pattern.",
        choice(FilterKind::NAMES),
    );
    let text = fields.optional("pattern", "What the topic is compared with.", pattern());
    let filter = single_filter(fields, kind.unwrap_or_default(), text.unwrap_or_default());
    fields.rule(
        "oneOf",
        json!([
            { "required": ["any"] },
            { "required": ["all"] },
            { "required": ["not"] },
            { "required": ["filter_type", "pattern"] },
        ]),
    );
    let own = ["filter_type", "pattern", "case_sensitive", "negate"]
        .into_iter()
        .find(|name| fields.has(name));
    let given: Vec<&'static str> = ["any", "all", "not"]
        .into_iter()
        .filter(|name| fields.has(name))
        .chain(own)
        .collect();
    match given.as_slice() {
        [] if !fields.all_known() => {}
        [] => fields.error("", "a filter needs one of `any`, `all`, `not`, or `filter_type` with `pattern`", None),
        [_] => {}
        [first, second, ..] => fields.error(
            second,
            format!("`{second}` cannot stand beside `{first}`"),
            "a filter is one of `any`, `all`, `not`, or `filter_type` with `pattern`: put one inside the other".to_owned(),
        ),
    }
    if given == own.as_slice() && own.is_some() {
        for name in ["filter_type", "pattern"] {
            if !fields.has(name) && fields.all_known() {
                fields.error("", format!("a filter needs `{name}`"), None);
            }
        }
    }
    match (any, all, not) {
        (Some(children), ..) => FilterTree::Any(children),
        (_, Some(children), _) => FilterTree::All(children),
        (.., Some(child)) => FilterTree::Not(Box::new(child)),
        _ => FilterTree::Leaf(filter),
    }
}

fn pattern() -> impl Shape<Value = String> {
    map_text(MAX_PATTERN_BYTES, |text| Ok(text.to_owned()))
}

// ---- Conditions

fn condition(fields: &mut Fields<'_>) -> Condition {
    let kind = fields.required(
        "condition_type",
        "What is looked at.",
        choice(CONDITION_KINDS),
    );
    let field_path = fields.optional(
        "field_path",
        "The name of the header, or the JSONPath in the payload.",
        map_text(MAX_PATTERN_BYTES, |text| Ok(text.to_owned())),
    );
    let operator = fields.required("operator", "How it is compared.", choice(Operator::NAMES));
    let value = fields.required(
        "value",
        "With what it is compared.",
        open(
            not_a_scalar,
            || json!({ "type": ["string", "number", "boolean", "null"] }),
        ),
    );
    let negate = fields.or("negate", "Inverts the test.", false, boolean());
    let named = matches!(
        kind,
        ConditionKind::HeaderValue | ConditionKind::PayloadField
    );
    fields.rule(
        "if",
        json!({ "properties": { "condition_type": { "enum": ["HeaderValue", "PayloadField"] } } }),
    );
    fields.rule("then", json!({ "required": ["field_path"] }));
    if fields.is_clean() {
        if named && field_path.is_none() && fields.all_known() {
            let example = if kind == ConditionKind::HeaderValue {
                "content-type"
            } else {
                "$.sensor.unit"
            };
            fields.error(
                "",
                "the rule needs `field_path`",
                format!("for example field_path = \"{example}\""),
            );
        }
        if !named && field_path.is_some() {
            fields.warning(
                "field_path",
                "it has no effect: the message as a whole is measured",
                "remove it".to_owned(),
            );
        }
        if let Some((message, hint)) = incomparable(kind, operator, &value) {
            fields.error("value", message, Some(hint));
        }
    }
    let name = field_path.unwrap_or_default();
    let subject = match kind {
        ConditionKind::HeaderValue => Subject::Header(name),
        ConditionKind::PayloadField => Subject::Payload(name),
        ConditionKind::MessageSize => Subject::MessageSize,
        ConditionKind::MessageAge => Subject::MessageAge,
    };
    Condition {
        subject,
        operator,
        value,
        negate,
        path: fields.path(),
    }
}

fn not_a_scalar(node: &Node) -> Option<&'static str> {
    matches!(
        node.value,
        Value::List(_) | Value::Table(_) | Value::DateTime(_)
    )
    .then_some("a string, number, boolean or null")
}

/// Why a comparison could never hold, and what could.
fn incomparable(kind: ConditionKind, operator: Operator, value: &Json) -> Option<(String, String)> {
    use Operator::{Contains, EndsWith, Equals, Matches, NotEquals, StartsWith};
    let measured = matches!(kind, ConditionKind::MessageSize | ConditionKind::MessageAge);
    let textual = matches!(operator, Contains | StartsWith | EndsWith | Matches);
    let unit = if kind == ConditionKind::MessageSize {
        "bytes"
    } else {
        "milliseconds"
    };
    if measured && textual {
        let message = format!("`{operator}` compares text, and this is a number of {unit}");
        return Some((
            message,
            "use Equals, NotEquals, GreaterThan, LessThan, GreaterThanOrEqual or LessThanOrEqual"
                .to_owned(),
        ));
    }
    if measured && !value.is_number() {
        return Some((
            format!("a number of {unit} is compared with a number"),
            format!("write {unit}, without quotes"),
        ));
    }
    if textual {
        let text = value.as_str();
        if text.is_none() {
            return Some((
                format!("`{operator}` compares with a string"),
                "put it in quotes".to_owned(),
            ));
        }
        if text.is_some_and(|text| text.len() > MAX_PATTERN_BYTES) {
            return Some((
                "the text is too long".to_owned(),
                format!("at most {MAX_PATTERN_BYTES} bytes"),
            ));
        }
    }
    let ordered = !textual && !matches!(operator, Equals | NotEquals);
    if ordered && !value.is_number() && !value.is_string() {
        return Some((
            format!("`{operator}` compares with a number or a string"),
            "use Equals or NotEquals".to_owned(),
        ));
    }
    if kind == ConditionKind::HeaderValue && !value.is_number() && !value.is_string() {
        return Some((
            "a header is text, and is compared with a string or a number".to_owned(),
            "put it in quotes".to_owned(),
        ));
    }
    None
}

// ---- Instances

fn instance_config(fields: &mut Fields<'_>) -> InstanceConfig {
    let memory_limit_bytes = fields.or(
        "memory_limit_bytes",
        "Linear memory that one instance may have.",
        64 * KIB * KIB,
        integer(64 * KIB..=4 * GIB).of(" bytes"),
    );
    let execution_timeout = fields.or(
        "execution_timeout_ms",
        "For the call of one record.",
        1000,
        milliseconds(1..=HOUR_MS),
    );
    let max_concurrent_instances = fields.optional(
        "max_concurrent_instances",
        "Instances of this module with this configuration alive at once, over all lanes. By default only `max_pool_size` holds.",
        integer(1..=MAX_INSTANCES),
    );
    let caching = fields.or(
        "enable_caching",
        "Results are reused for equal input, for modules that read neither the clock nor random numbers.",
        false,
        boolean(),
    );
    let ttl = fields.or(
        "cache_ttl_seconds",
        "How long a result may be reused.",
        300,
        seconds(1..=HOUR_SECONDS),
    );
    let custom_config = fields.optional(
        "custom_config",
        "The module's own settings, which it is given as JSON when an instance starts. By default an empty object.",
        settings(),
    );
    if fields.has("cache_ttl_seconds") && !caching && fields.is_clean() {
        fields.warning(
            "cache_ttl_seconds",
            "it has no effect without `enable_caching`",
            "set `enable_caching = true`, or remove it".to_owned(),
        );
    }
    InstanceConfig {
        memory_limit_bytes,
        execution_timeout,
        // 0 stands for "not said" until `check.rs` puts the pool's limit there; no user can write it.
        max_concurrent_instances: max_concurrent_instances.unwrap_or(0),
        cache_ttl: caching.then_some(ttl),
        custom_config: custom_config.unwrap_or_default(),
    }
}

fn circuit_breaker(fields: &mut Fields<'_>) -> CircuitBreaker {
    CircuitBreaker {
        failure_rate: fields.or(
            "failure_rate",
            "The part of the calls in the window that must have failed for the circuit to open.",
            0.5,
            fraction(0.001..=1.0),
        ),
        window: fields.or(
            "window_ms",
            "How far back calls count.",
            10_000,
            milliseconds(1..=HOUR_MS),
        ),
        min_calls: fields.or(
            "min_calls",
            "Fewer calls than this in the window never open the circuit.",
            20,
            integer(1..=1_000_000_u32),
        ),
        open: fields.or(
            "open_ms",
            "How long it stays open before probes are let through.",
            30_000,
            milliseconds(1..=HOUR_MS),
        ),
        half_open_probes: fields.or(
            "half_open_probes",
            "Probes that must all succeed for the circuit to close.",
            3,
            integer(1..=1000_u32),
        ),
    }
}

/// The new version of a module that is on trial.
pub(super) fn canary(fields: &mut Fields<'_>) -> Canary {
    Canary {
        file: fields.required("path", "The WASM file of the new version.", file_path()),
        sha256: fields.optional(
            "sha256",
            "The SHA-256 that the file must have, as 64 hexadecimal digits.",
            map_text(64, sha256).like("^[0-9A-Fa-f]{64}$"),
        ),
        mode: fields.or(
            "mode",
            "Whether the new version handles its records (`canary`), or only sees them too and is compared (`shadow`).",
            "canary",
            choice(CanaryMode::NAMES),
        ),
        percent: fields.or(
            "percent",
            "The part of the records that the new version sees, in hundredths.",
            10,
            integer(1..=100_u32),
        ),
        max_error_increase: fields.or(
            "max_error_increase",
            "The new version is rolled back when the part of its calls that fail exceeds that of the present one by more than this.",
            0.05,
            fraction(0.0..=1.0),
        ),
        min_samples: fields.or(
            "min_samples",
            "Before the new version has been called for so many records nothing is judged.",
            100,
            integer(1..=1_000_000_000_u32),
        ),
        path: fields.path(),
    }
}
