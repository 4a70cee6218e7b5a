//! Every route there is: what it is called, who may use it, what it takes and what it answers.
//!
//! The server finds its operations here, the OpenAPI document is written from here, and the test of access has a row for each line
//! here, so that a route cannot be added without saying who may use it.

use crate::access::Role;
use crate::answer::Answer;
use crate::call::Call;
use crate::operations::{
    console, explain, generations, history, letters, modules, pipelines, statistics, watching,
};
use crate::site::Site;

/// Runs on a thread that may block.
pub(crate) type Operation = fn(&Site, &Call) -> Result<Answer, Answer>;

/// One thing that can be asked for.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    /// Pieces in braces are parameters.
    pub(crate) path: &'static str,
    /// `None`: anybody at all.
    pub(crate) role: Option<Role>,
    pub(crate) reach: Reach,
    pub(crate) takes: Takes,
    pub(crate) query: &'static [Parameter],
    /// The name of a schema, or the media type of what is not JSON.
    pub(crate) answers: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) operation: Operation,
}

/// What a route is about, for callers who are confined to some pipelines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Nothing that anybody is confined from.
    Nothing,
    /// Pipelines, of which only those within reach are told.
    Listed,
    /// The pipeline of this path.
    Pipeline,
    /// The module of this path, and so every pipeline that uses it.
    Module,
    /// Everything, so that whoever is confined is refused.
    Everything,
}

/// The body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    /// A document of a configuration, in JSON or TOML.
    Document,
    /// JSON of this schema.
    Json(&'static str),
    /// The bytes of a module.
    Wasm,
}

/// A parameter in the query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) is_required: bool,
    pub(crate) summary: &'static str,
}

/// The values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Text,
    Boolean,
    Integer(u64, u64),
    Fraction,
    OneOf(&'static [&'static str]),
}

/// What a route does to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// It changes the configuration, in one swap: it can be made to depend on a generation (`If-Match`).
    Change,
    /// It does something else that is written down.
    Act,
}

impl Route {
    /// What it does to the world. Whatever is not nothing can be tried (`dry_run`).
    pub(crate) fn effect(&self) -> Effect {
        match self.answers {
            CHANGED => Effect::Change,
            REDRIVEN => Effect::Act,
            _ => Effect::None,
        }
    }

    /// Whether it changes the configuration.
    pub(crate) fn changes(&self) -> bool {
        self.effect() == Effect::Change
    }

    /// Every parameter of its query.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = &'static Parameter> {
        let dry_run = (self.effect() != Effect::None).then_some(&DRY_RUN);
        self.query.iter().chain(dry_run)
    }
}

/// The schema of what a change answers.
pub(crate) const CHANGED: &str = "Changed";

/// The schema of what redriving answers.
pub(crate) const REDRIVEN: &str = "Redriven";

const DRY_RUN: Parameter = Parameter {
    name: "dry_run",
    kind: Kind::Boolean,
    is_required: false,
    summary: "Look and check everything, and change nothing.",
};

const TOPIC: Parameter = Parameter {
    name: "topic",
    kind: Kind::Text,
    is_required: true,
    summary: "The topic.",
};

const FROM: Parameter = Parameter {
    name: "from",
    kind: Kind::Integer(1, u64::MAX),
    is_required: false,
    summary: "The generation to compare with; by default the one before.",
};

const CANARY: &[Parameter] = &[
    Parameter {
        name: "percent",
        kind: Kind::Integer(1, 100),
        is_required: false,
        summary: "The part of the records that the new version sees, in hundredths; by default 10.",
    },
    Parameter {
        name: "mode",
        kind: Kind::OneOf(&["canary", "shadow"]),
        is_required: false,
        summary: "Whether what the new version answers counts (`canary`, the default), or is only compared (`shadow`).",
    },
    Parameter {
        name: "max_error_increase",
        kind: Kind::Fraction,
        is_required: false,
        summary: "The new version is rolled back when the part of its calls that fail exceeds that of the present one by more than this.",
    },
    Parameter {
        name: "min_samples",
        kind: Kind::Integer(1, 1_000_000_000),
        is_required: false,
        summary: "Before the new version has been called for so many records nothing is judged.",
    },
];

const fn optional(name: &'static str, kind: Kind, summary: &'static str) -> Parameter {
    Parameter {
        name,
        kind,
        is_required: false,
        summary,
    }
}

const LETTERS_TOPIC: Parameter = Parameter {
    name: "topic",
    kind: Kind::Text,
    is_required: true,
    summary: "The topic of dead letters.",
};
const LETTERS_MODULE: Parameter = optional(
    "module",
    Kind::Text,
    "Only those that this module failed on.",
);
const LETTERS_KIND: Parameter = optional("kind", Kind::Text, "Only those of this kind of failure.");
const LETTERS_SINCE: Parameter = optional(
    "since",
    Kind::Text,
    "Only those that failed within this time: 90s, 30m, 12h, 7d.",
);

const SUMMARY: &[Parameter] = &[LETTERS_TOPIC, LETTERS_MODULE, LETTERS_KIND, LETTERS_SINCE];
const BROWSE: &[Parameter] = &[
    LETTERS_TOPIC,
    LETTERS_MODULE,
    LETTERS_KIND,
    LETTERS_SINCE,
    optional(
        "limit",
        Kind::Integer(1, 200),
        "So many at the most; by default 50.",
    ),
    optional(
        "before",
        Kind::Text,
        "Those after the one of this key; `next` of the page before.",
    ),
];
const REDRIVE: &[Parameter] = &[
    LETTERS_TOPIC,
    LETTERS_MODULE,
    LETTERS_KIND,
    LETTERS_SINCE,
    optional(
        "attempts",
        Kind::Integer(0, 1000),
        "Send a record back so many times at the most, then park it; by default 3.",
    ),
];
const AUDIT: &[Parameter] = &[
    optional(
        "limit",
        Kind::Integer(1, 1000),
        "So many at the most; by default 100.",
    ),
    optional(
        "before",
        Kind::Integer(1, u64::MAX),
        "Those before the line of this number.",
    ),
];

const VIEWER: Option<Role> = Some(Role::Viewer);
const OPERATOR: Option<Role> = Some(Role::Operator);
const ADMIN: Option<Role> = Some(Role::Admin);

macro_rules! routes {
    ($($method:literal $path:literal, $role:expr, $reach:ident, $takes:expr, $query:expr => $answers:expr, $operation:path, $summary:literal;)*) => {
        &[$(Route {
            method: $method,
            path: $path,
            role: $role,
            reach: Reach::$reach,
            takes: $takes,
            query: $query,
            answers: $answers,
            summary: $summary,
            operation: $operation,
        }),*]
    };
}

/// The table.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = routes! {
    "GET" "/", None, Nothing, Takes::Nothing, &[] => "text/html", console::page,
        "The console.";
    "GET" "/console.css", None, Nothing, Takes::Nothing, &[] => "text/css", console::looks,
        "Its looks.";
    "GET" "/console.svg", None, Nothing, Takes::Nothing, &[] => "image/svg+xml", console::icon,
        "Its sign.";
    "GET" "/console/{file}", None, Nothing, Takes::Nothing, &[] => "text/javascript", console::program,
        "Its program, a file for each view.";
    "GET" "/healthz", None, Nothing, Takes::Nothing, &[] => "text/plain", watching::alive,
        "Whether the process works.";
    "GET" "/readyz", None, Nothing, Takes::Nothing, &[] => "Ready", watching::ready,
        "Whether records are taken; 503 where not.";
    "GET" "/metrics", VIEWER, Everything, Takes::Nothing, &[] => "text/plain", watching::metrics,
        "Every metric, for Prometheus.";
    "GET" "/api/v1/openapi.json", VIEWER, Nothing, Takes::Nothing, &[] => "OpenApi", watching::openapi,
        "This document.";
    "GET" "/api/v1/session", VIEWER, Nothing, Takes::Nothing, &[] => "Session", watching::session,
        "Who the caller is, and what they may do.";
    "GET" "/api/v1/health", VIEWER, Listed, Takes::Nothing, &[] => "Health", watching::health,
        "Whether all is well, and what is not.";
    "GET" "/api/v1/statistics", VIEWER, Listed, Takes::Nothing, &[] => "Statistics", statistics::get,
        "What went through since the start, by pipeline, stage and module, and what is held now.";
    "GET" "/api/v1/pipelines", VIEWER, Listed, Takes::Nothing, &[] => "Pipelines", pipelines::list,
        "Every pipeline, in the order in which they run.";
    "GET" "/api/v1/pipelines/{id}", VIEWER, Pipeline, Takes::Nothing, &[] => "Pipeline", pipelines::get,
        "A pipeline's document as it was written; what the environment put into it is not shown.";
    "PUT" "/api/v1/pipelines/{id}", ADMIN, Pipeline, Takes::Document, &[] => CHANGED, pipelines::put,
        "Makes a pipeline, or puts another one in its place.";
    "DELETE" "/api/v1/pipelines/{id}", ADMIN, Pipeline, Takes::Nothing, &[] => CHANGED, pipelines::delete,
        "Takes a pipeline away.";
    "POST" "/api/v1/pipelines/{id}/enable", OPERATOR, Pipeline, Takes::Nothing, &[] => CHANGED, pipelines::enable,
        "Lets a pipeline run.";
    "POST" "/api/v1/pipelines/{id}/disable", OPERATOR, Pipeline, Takes::Nothing, &[] => CHANGED, pipelines::disable,
        "Lets a pipeline not run.";
    "GET" "/api/v1/modules", VIEWER, Listed, Takes::Nothing, &[] => "Modules", modules::list,
        "Every module, with who uses it and how its new version does.";
    "GET" "/api/v1/modules/{id}", VIEWER, Module, Takes::Nothing, &[] => "Module", modules::get,
        "A module.";
    "PUT" "/api/v1/modules/{id}", ADMIN, Module, Takes::Wasm, &[] => CHANGED, modules::put,
        "Stores a module and lets it take the place of the one of this id, at once.";
    "DELETE" "/api/v1/modules/{id}", ADMIN, Module, Takes::Nothing, &[] => CHANGED, modules::delete,
        "Takes a module's declaration away. No pipeline may use it; its file stays.";
    "PUT" "/api/v1/modules/{id}/canary", ADMIN, Module, Takes::Wasm, CANARY => CHANGED, modules::put_canary,
        "Stores a new version of a module and puts it on trial.";
    "PATCH" "/api/v1/modules/{id}/canary", OPERATOR, Module, Takes::Json("CanarySettings"), &[] => CHANGED, modules::patch_canary,
        "Changes how the new version of a module is tried: what is not named stays.";
    "POST" "/api/v1/modules/{id}/promote", OPERATOR, Module, Takes::Nothing, &[] => CHANGED, modules::promote,
        "Ends a trial: the new version is the module.";
    "POST" "/api/v1/modules/{id}/rollback", OPERATOR, Module, Takes::Nothing, &[] => CHANGED, modules::roll_back,
        "Ends a trial: the new version is gone.";
    "GET" "/api/v1/explain", VIEWER, Listed, Takes::Nothing, &[TOPIC] => "Explanation", explain::topic,
        "Which modules a topic selects, and why not the others.";
    "POST" "/api/v1/explain", OPERATOR, Everything, Takes::Json("Record"), &[] => "Explanation", explain::record,
        "Runs a record through the modules and says what each made of it. Nothing goes out.";
    "POST" "/api/v1/validate", ADMIN, Everything, Takes::Document, &[] => "Report", explain::validate,
        "Builds a whole configuration, or one pipeline, and says everything that is wrong with it.";
    "POST" "/api/v1/reload", OPERATOR, Everything, Takes::Nothing, &[] => CHANGED, generations::reload,
        "Loads the configuration's files again. Changes that were made here and are not in them are over.";
    "GET" "/api/v1/generations", VIEWER, Everything, Takes::Nothing, &[] => "Generations", generations::list,
        "The configurations that are kept, oldest first; the last one is in force.";
    "GET" "/api/v1/generations/{generation}", VIEWER, Everything, Takes::Nothing, &[FROM] => "Difference", generations::difference,
        "What a generation changed.";
    "POST" "/api/v1/generations/{generation}/rollback", OPERATOR, Everything, Takes::Nothing, &[] => CHANGED, generations::roll_back,
        "Goes back to a configuration that is kept, with the bytes that its modules had.";
    "GET" "/api/v1/dead-letters/topics", VIEWER, Nothing, Takes::Nothing, &[] => "DeadLetterTopics", letters::topics,
        "The topics that hold dead letters.";
    "GET" "/api/v1/dead-letters/summary", VIEWER, Listed, Takes::Nothing, SUMMARY => "DeadLetterSummary", letters::summary,
        "What is the matter with dead letters, and how many there are of each.";
    "GET" "/api/v1/dead-letters", VIEWER, Listed, Takes::Nothing, BROWSE => "DeadLetters", letters::browse,
        "Dead letters with their reasons, the newest first; the records in them for operators only.";
    "POST" "/api/v1/dead-letters/redrive", OPERATOR, Listed, Takes::Nothing, REDRIVE => REDRIVEN, letters::redrive,
        "Sends dead letters back to the topics that they came from.";
    "GET" "/api/v1/audit", ADMIN, Everything, Takes::Nothing, AUDIT => "AuditLines", history::audit,
        "What was changed and what was refused, the newest first.";
};

/// A route, for those who check or describe them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteInfo {
    /// `GET` and the like.
    pub method: &'static str,
    /// The path, with parameters in braces.
    pub path: &'static str,
    /// The role that it needs; `None` where anybody may.
    pub role: Option<Role>,
    /// What it does.
    pub summary: &'static str,
}

/// Every route.
pub fn routes() -> impl Iterator<Item = RouteInfo> {
    ROUTES.iter().map(|route| RouteInfo {
        method: route.method,
        path: route.path,
        role: route.role,
        summary: route.summary,
    })
}
