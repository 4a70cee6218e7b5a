//! What a user writes: every table and field, with its sentence, default and bounds.
//!
//! These functions both read a configuration and write its JSON Schema; see `reader.rs` for how. What can be judged by looking at
//! one table is judged here; what needs several is in `check.rs`. Two fields have defaults that depend on another table, and are
//! filled in by `check.rs`: `dead_letter_topic` and `max_concurrent_instances`.

mod module;

use std::path::PathBuf;

use serde_json::json;

use crate::model::{
    DeadLetter, Engine, ErrorHandling, InstancePool, MergePolicy, ModuleDeclaration, Pipeline,
    Security, Stage, TopicTemplate,
};
use crate::path::ConfigPath;
use crate::reader::shapes::Complaint;
use crate::reader::{
    Fields, Reading, Shape, boolean, choice, integer, list, map_text, milliseconds, seconds, table,
    text,
};
use crate::secret::{KeySource, KeySourceError};
use crate::source::SourceFile;
use crate::tree::Node;

const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// Instances that may be alive at once, at most.
const MAX_INSTANCES: u32 = 100_000;
const HOUR_MS: u32 = 3_600_000;
const HOUR_SECONDS: u32 = 3_600;
const MAX_TEXT_BYTES: usize = 64 << 10;
/// With `.wasm` after it, an id is still a file name everywhere.
const MAX_ID_BYTES: usize = 200;

/// A configuration as one file gives it.
pub(crate) struct Written {
    pub engine: Engine,
    pub instance_pool: InstancePool,
    pub dead_letter: DeadLetter,
    pub security: Security,
    pub secrets: WrittenSecrets,
    pub modules_dir: Option<PathBuf>,
    pub modules: Vec<WrittenModule>,
    pub pipelines: Vec<Pipeline>,
}

/// Where secrets are, before paths are resolved.
pub(crate) struct WrittenSecrets {
    pub file: Option<PathBuf>,
    pub key: Option<KeySource>,
}

/// A module as it is declared.
pub(crate) struct WrittenModule {
    pub declaration: ModuleDeclaration,
    /// The file it names, if it does, before it is resolved.
    pub file: Option<PathBuf>,
}

impl Written {
    /// A configuration that says nothing.
    pub(crate) fn defaults() -> Self {
        let root = ConfigPath::root();
        let node = Node::scalar(json!({}), 0..0);
        let mut reading = Reading::new(SourceFile::new(String::new(), String::new()));
        Fields::read(
            "a configuration",
            &node,
            &[],
            root,
            &mut reading,
            configuration,
        )
    }
}

fn configuration(fields: &mut Fields<'_>) -> Written {
    schema_address(fields);
    Written {
        engine: fields.section("engine", "How the engine schedules and bounds its work.", table("Engine", "`engine`", engine)),
        instance_pool: fields.section(
            "instance_pool",
            "Budgets for module instances, over all modules and lanes.",
            table("InstancePool", "`instance_pool`", instance_pool),
        ),
        dead_letter: fields.section("dead_letter", "Where failed records go.", table("DeadLetter", "`dead_letter`", dead_letter)),
        security: fields.section("security", "Which modules may be loaded.", table("Security", "`security`", security)),
        secrets: fields.section("secrets", "Where the secrets are that modules are given.", table("Secrets", "`secrets`", secrets)),
        modules_dir: fields.optional(
            "modules_dir",
            "The folder in which a module without a path is looked for, as `<module_id>.wasm`. By default `modules` beside this file.",
            file_path(),
        ),
        modules: fields
            .optional("modules", "The modules that need more said than their id.", list(0, table("Module", "a module", module)))
            .unwrap_or_default(),
        pipelines: fields.optional("pipelines", "The pipelines.", list(0, pipeline_table())).unwrap_or_default(),
    }
}

pub(crate) fn pipeline_table() -> impl Shape<Value = Pipeline> {
    table("Pipeline", "a pipeline", pipeline)
}

pub(crate) fn module_table() -> impl Shape<Value = WrittenModule> {
    table("Module", "a module", module)
}

pub(crate) fn configuration_table() -> impl Shape<Value = Written> {
    table("Configuration", "a configuration", configuration)
}

pub(crate) fn secrets_table() -> impl Shape<Value = WrittenSecrets> {
    table("Secrets", "`secrets`", secrets)
}

fn schema_address(fields: &mut Fields<'_>) {
    fields.optional(
        "$schema",
        "Where an editor finds the schema of this document.",
        text(MAX_TEXT_BYTES),
    );
}

fn engine(fields: &mut Fields<'_>) -> Engine {
    Engine {
        lanes: fields.optional(
            "lanes",
            "Threads that run pipelines. By default one per core that the process may use.",
            integer(1..=1024_u32),
        ),
        max_in_flight_records: fields.or(
            "max_in_flight_records",
            "Records in flight at once, over all lanes; more wait.",
            65_536,
            integer(1..=1_u64 << 24),
        ),
        max_in_flight_bytes: fields.or(
            "max_in_flight_bytes",
            "Bytes of records in flight at once, over all lanes; more wait.",
            256 * KIB * KIB,
            integer(64 * KIB..=1024 * GIB).of(" bytes"),
        ),
        max_emitted_per_record: fields.or(
            "max_emitted_per_record",
            "Extra records that one input record may cause, over all modules together.",
            1024,
            integer(0..=1_u32 << 20),
        ),
        ageing: fields.or(
            "ageing_ms",
            "How long a record waits in the queue until it counts as one priority more urgent than it is, so that none starves.",
            100,
            milliseconds(1..=HOUR_MS),
        ),
    }
}

fn instance_pool(fields: &mut Fields<'_>) -> InstancePool {
    InstancePool {
        max_pool_size: fields.or("max_pool_size", "Instances alive at once, over all modules and lanes.", 1024, integer(1..=MAX_INSTANCES)),
        warmup_instances: fields.or(
            "warmup_instances",
            "Instances of each module that each lane makes ready before a configuration serves.",
            1,
            integer(0..=1000_u32),
        ),
        idle_timeout: fields.or(
            "idle_timeout_seconds",
            "An instance that has been idle for so long is dropped.",
            300,
            seconds(1..=HOUR_SECONDS),
        ),
        creation_rate_limit: fields.or(
            "creation_rate_limit",
            "Instances created a second; requests over it wait, within their timeout.",
            10_000,
            integer(1..=1_000_000_u32),
        ),
        max_total_memory_bytes: fields.or(
            "max_total_memory_bytes",
            "Linear memory of all instances together.",
            GIB,
            integer(64 * KIB..=1024 * GIB).of(" bytes"),
        ),
        cache_dir: fields.optional(
            "cache_dir",
            "The folder in which compiled modules are kept between runs. By default they are not kept.",
            file_path(),
        ),
        cache_max_bytes: fields.or(
            "cache_max_bytes",
            "Bytes that the files in `cache_dir` may have together; those that were not used for longest go first.",
            GIB,
            integer(KIB * KIB..=1024 * GIB).of(" bytes"),
        ),
    }
}

fn dead_letter(fields: &mut Fields<'_>) -> DeadLetter {
    DeadLetter {
        topic: fields.or(
            "topic",
            "The topic for records that failed; `{topic}` stands for the topic that the record arrived on.",
            "{topic}.dlq",
            topic_template(),
        ),
    }
}

fn security(fields: &mut Fields<'_>) -> Security {
    Security {
        trusted_keys: fields.optional(
            "trusted_keys",
            "The public keys of which one must have signed a module, as 64 hexadecimal digits each. By default signatures are not looked at.",
            list(0, map_text(64, public_key).like("^[0-9A-Fa-f]{64}$")),
        ),
    }
}

fn secrets(fields: &mut Fields<'_>) -> WrittenSecrets {
    WrittenSecrets {
        file: fields.optional(
            "file",
            "The file that `etl secret set` writes. By default `etl.secrets` beside this file.",
            file_path(),
        ),
        key: fields.optional(
            "key",
            "Where its key comes from: `file:PATH`, `env:NAME` or `command:COMMAND`. By default the variable `ETL_SECRET_KEY`.",
            map_text(4096, key_source).like("^(file|env|command):."),
        ),
    }
}

fn module(fields: &mut Fields<'_>) -> WrittenModule {
    let id = fields.required(
        "id",
        "The name by which pipelines use the module.",
        identifier(),
    );
    let file = fields.optional(
        "path",
        "The WASM file. By default `<modules_dir>/<id>.wasm`.",
        file_path(),
    );
    let sha256 = fields.optional(
        "sha256",
        "The SHA-256 that the file must have, as 64 hexadecimal digits.",
        map_text(64, sha256).like("^[0-9A-Fa-f]{64}$"),
    );
    let canary = fields.optional(
        "canary",
        "A new version of the module, on trial beside the present one.",
        table("Canary", "`canary`", module::canary),
    );
    WrittenModule {
        declaration: ModuleDeclaration {
            id,
            file: PathBuf::new(),
            sha256,
            canary,
            path: fields.path(),
        },
        file,
    }
}

fn pipeline(fields: &mut Fields<'_>) -> Pipeline {
    schema_address(fields);
    let id = fields.required(
        "pipeline_id",
        "A unique name, of which files and metrics are named.",
        identifier(),
    );
    let pipeline = Pipeline {
        name: fields.optional("name", "A name for people. By default the id.", text(MAX_TEXT_BYTES)).unwrap_or_else(|| id.clone()),
        id,
        description: fields.optional("description", "What it is for, for people.", text(MAX_TEXT_BYTES)),
        enabled: fields.or("enabled", "A disabled pipeline is checked but does not run.", true, boolean()),
        order: fields.or(
            "order",
            "Pipelines that apply to a record run by (`order`, `pipeline_id`), lower first.",
            0,
            integer(i32::MIN..=i32::MAX),
        ),
        stages: fields.required("stages", "What it does. Stages run by priority.", list(1, table("Stage", "a stage", stage))),
        timeout: fields.or(
            "global_timeout_ms",
            "For one record's way through the whole pipeline, waiting for retries included.",
            5000,
            milliseconds(1..=HOUR_MS),
        ),
        max_retries: fields.or(
            "max_retries",
            "Further attempts of a failed module call, under `RetryWithBackoff`.",
            3,
            integer(0..=100_u32),
        ),
        error_handling: fields.or("error_handling", "What a failed module call does.", "StopPipeline", choice(ErrorHandling::NAMES)),
        dead_letter_topic: fields
            .optional("dead_letter_topic", "The topic for its dead letters. By default that of `dead_letter`.", topic_template())
            .unwrap_or(TopicTemplate::UNSAID),
        memory_budget_bytes: fields.optional(
            "memory_budget_bytes",
            "Linear memory of all instances that serve this pipeline together. By default only the pool's budget holds.",
            integer(64 * KIB..=4 * GIB).of(" bytes"),
        ),
        path: fields.path(),
    };
    if fields.is_clean() {
        pipeline_lints(fields, &pipeline);
    }
    pipeline
}

fn pipeline_lints(fields: &mut Fields<'_>, pipeline: &Pipeline) {
    for (index, stage) in pipeline.stages.iter().enumerate() {
        if let Some(earlier) = pipeline.stages[..index]
            .iter()
            .position(|earlier| earlier.priority == stage.priority)
        {
            fields.warning_at(
                &stage.path.key("priority"),
                format!("`stages[{earlier}]` has priority {} too", stage.priority),
                "stages of equal priority run in file order; give each its own, or put their modules in one stage".to_owned(),
            );
        }
        if let Some(timeout) = stage.timeout.filter(|timeout| *timeout > pipeline.timeout) {
            fields.warning_at(
                &stage.path.key("stage_timeout_ms"),
                format!(
                    "{} ms is longer than the {} ms of the whole pipeline",
                    timeout.as_millis(),
                    pipeline.timeout.as_millis()
                ),
                "the nearest timeout wins: lower this one or raise `global_timeout_ms`".to_owned(),
            );
        }
        for module in &stage.modules {
            let limit = module.instance.memory_limit_bytes;
            if let Some(budget) = pipeline
                .memory_budget_bytes
                .filter(|budget| *budget < limit)
            {
                fields.warning_at(
                    &module.path.key("instance_config").key("memory_limit_bytes"),
                    format!("one instance of `{}` may take {limit} bytes, more than the pipeline's budget of {budget}", module.module_id),
                    "lower `memory_limit_bytes` or raise `memory_budget_bytes`".to_owned(),
                );
            }
        }
    }
}

fn stage(fields: &mut Fields<'_>) -> Stage {
    let stage = Stage {
        priority: fields.required("priority", "Lower runs first.", integer(0..=u32::MAX)),
        parallel: fields.or(
            "parallel_execution",
            "Every module sees the stage's input, and their changes merge; otherwise each sees what the one before it left.",
            false,
            boolean(),
        ),
        timeout: fields.optional(
            "stage_timeout_ms",
            "For one record's way through the stage. By default only the pipeline's timeout holds.",
            milliseconds(1..=HOUR_MS),
        ),
        continue_on_error: fields.or(
            "continue_on_error",
            "A failed module is skipped, and the pipeline goes on.",
            false,
            boolean(),
        ),
        merge_policy: fields.or(
            "merge_policy",
            "What happens where parallel modules write the same thing differently: the later one wins (`ordered`), or the stage fails (`strict`).",
            "ordered",
            choice(MergePolicy::NAMES),
        ),
        modules: fields.required(
            "modules",
            "The modules of this priority, in their order.",
            list(1, table("ModuleUse", "a module of a stage", module::module_use)),
        ),
        path: fields.path(),
    };
    if fields.has("merge_policy") && !stage.parallel && fields.is_clean() {
        fields.warning(
            "merge_policy",
            "it has no effect on a stage whose modules run one after the other",
            "set `parallel_execution = true`, or remove it".to_owned(),
        );
    }
    stage
}

// ---- Texts with a form

/// A name that can be a file's and a metric's label.
fn identifier() -> impl Shape<Value = String> {
    map_text(MAX_ID_BYTES, |text| {
        let complaint = |offset, message: &str| Complaint {
            offset,
            message: message.to_owned(),
            hint: Some(
                "ids become file names and metric labels: use letters, digits, `.`, `_` and `-`"
                    .to_owned(),
            ),
        };
        if let Some((offset, found)) = text
            .char_indices()
            .find(|(_, found)| found.is_control() || matches!(found, '/' | '\\'))
        {
            return Err(complaint(
                offset,
                &format!("an id cannot contain {found:?}"),
            ));
        }
        if text.trim() != text {
            return Err(complaint(0, "an id cannot begin or end with white space"));
        }
        if matches!(text, "." | "..") {
            return Err(complaint(0, "an id cannot be the name of a folder"));
        }
        Ok(text.to_owned())
    })
}

fn file_path() -> impl Shape<Value = PathBuf> {
    map_text(4096, |text| match text.find('\0') {
        Some(offset) => Err(Complaint {
            offset,
            message: "a path cannot contain a zero byte".to_owned(),
            hint: None,
        }),
        None => Ok(PathBuf::from(text)),
    })
}

fn topic_template() -> impl Shape<Value = TopicTemplate> {
    map_text(4096, |text| {
        text.parse::<TopicTemplate>().map_err(|error| Complaint {
            offset: error.offset(),
            message: error.to_string(),
            hint: Some("for example \"{topic}.dlq\"".to_owned()),
        })
    })
}

fn key_source(text: &str) -> Result<KeySource, Complaint> {
    text.parse().map_err(|error: KeySourceError| Complaint {
        offset: 0,
        message: error.to_string(),
        hint: Some("the key itself belongs into none of the configuration's files".to_owned()),
    })
}

fn sha256(text: &str) -> Result<[u8; 32], Complaint> {
    let hint = "64 hexadecimal digits, as `sha256sum` and `etl module inspect` print";
    bytes_32(text, "a SHA-256", hint)
}

fn public_key(text: &str) -> Result<[u8; 32], Complaint> {
    let hint = "64 hexadecimal digits, as `etl module key` prints";
    bytes_32(text, "a public key", hint)
}

/// 32 bytes as hexadecimal digits.
fn bytes_32(text: &str, what: &str, hint: &str) -> Result<[u8; 32], Complaint> {
    let complaint = |offset, message: String| Complaint {
        offset,
        message,
        hint: Some(hint.to_owned()),
    };
    if let Some((offset, found)) = text
        .char_indices()
        .find(|(_, found)| !found.is_ascii_hexdigit())
    {
        return Err(complaint(
            offset,
            format!("{found:?} is not a hexadecimal digit"),
        ));
    }
    if text.len() != 64 {
        return Err(complaint(
            0,
            format!("{} hexadecimal digits are not {what}", text.len()),
        ));
    }
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digits.iter().fold(0, |value, digit| {
            value << 4 | char::from(*digit).to_digit(16).unwrap_or(0) as u8
        });
    }
    Ok(digest)
}

/// The whole schema: a configuration, the same under `etl`, or one pipeline.
pub(crate) fn schema() -> serde_json::Value {
    let mut definitions = serde_json::Map::new();
    let configuration = configuration_table().schema(&mut definitions);
    let pipeline = pipeline_table().schema(&mut definitions);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ETL configuration",
        "description": "A whole configuration, the same under `etl`, or one pipeline.",
        "type": "object",
        "if": { "required": ["etl"] },
        "then": { "properties": { "etl": configuration.clone() } },
        "else": {
            "if": { "anyOf": [{ "required": ["pipeline_id"] }, { "required": ["stages"] }] },
            "then": pipeline,
            "else": configuration,
        },
        "$defs": definitions,
    })
}
