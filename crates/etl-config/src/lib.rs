//! The configuration: what users write, checked and made into what runs.
//!
//! [`load`] reads a file or a folder, [`load_text`] a text; both give a [`Loaded`] with its [`Config`], or a [`Report`] of every
//! problem at once, each with file, line, column, [`ConfigPath`], message and hint. [`schema`] is the JSON Schema of the same model.
//!
//! How it works: TOML and JSON become one tree of values that know their place (`tree`), strings are filled from the environment
//! (`substitute`) and with secrets (`secret`), the tree is read against one description of the model (`document`, by the machinery of `reader`), and what needs
//! the whole configuration comes last (`check`). The same description writes the schema, so the two cannot differ.
//!
//! [`Loaded::edited`] changes pipelines and modules of a configuration that has been loaded, with the same checks.
//!
//! Refused: unknown fields, values out of bounds, ids that cannot be file names, variables that are not set, files that are not
//! UTF-8 or larger than [`MAX_FILE_BYTES`]. Not looked at: whether patterns compile and modules exist; who builds them reports with
//! [`Loaded::problem`].
//!
//! ```
//! use etl_config::{LoadOptions, load_text};
//! let report = load_text("p.json", r#"{ "pipeline_id": "p", "stagse": [] }"#, &LoadOptions::isolated()).unwrap_err();
//! assert_eq!(report.problems()[0].to_string(), "p.json:1:23: error: pipelines[0].stagse: unknown field `stagse`");
//! assert_eq!(report.problems()[0].hint(), Some("did you mean `stages`?"));
//! ```
#![forbid(unsafe_code)]

mod check;
mod custom_config;
mod document;
mod edit;
mod load;
mod model;
mod path;
mod problem;
mod reach;
mod reader;
mod render;
mod secret;
mod secret_settings;
mod source;
mod sources;
mod substitute;
mod template;
mod tree;

pub use custom_config::CustomConfig;
pub use edit::{Edit, EditText};
pub use load::{LoadOptions, Loaded, load, load_text};
pub use model::{
    Canary, CanaryMode, CircuitBreaker, Condition, Config, DeadLetter, Engine, ErrorHandling,
    FilterKind, FilterTree, InstanceConfig, InstancePool, Isolation, MergePolicy,
    ModuleDeclaration, ModuleUse, Operator, Pipeline, Security, Stage, Subject, TopicFilter,
    TopicTemplate,
};
pub use path::ConfigPath;
pub use problem::{Problem, Report, Severity};
pub use secret::{
    KeySource, KeySourceError, Secret, SecretError, SecretSettings, SecretSource, is_secret_name,
};
pub use secret_settings::secret_settings;
pub use template::TemplateError;

/// A pattern may have so many bytes.
pub const MAX_PATTERN_BYTES: usize = 4 << 10;

/// A configuration may have so many topic filters and conditional rules together.
pub const MAX_RULES: usize = 1_000_000;

/// A configuration file may have so many bytes.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// The JSON Schema, draft 2020-12, of every document that [`load`] reads from a file: a whole configuration, the same under `etl`, or one
/// pipeline.
#[must_use]
pub fn schema() -> serde_json::Value {
    document::schema()
}
