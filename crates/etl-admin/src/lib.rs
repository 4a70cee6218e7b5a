//! Operating the engine while it runs: an HTTP API for those who may, and for nobody else.
//!
//! [`Admin`] serves it, over hyper and axum. Every request goes the same way (`reception`): the table in `routes` says what it is and which
//! role it needs, `access` says who is asking, and only then is a body read and an operation (`operations`) run. Every change is one swap of
//! the orchestrator, is written down before it takes effect (`audit`), and answers with its generation or with everything that is wrong.
//! `openapi` describes the same table.
//!
//! Refused: callers without a token or certificate, on everything but the two probes; addresses that others can reach, unless that was
//! asked for; requests that use up more than [`Limits`] allow.
//!
//! What it must never know: brokers, terminals, and how a record's line is written; what it needs of those a [`Host`] lends it.
#![forbid(unsafe_code)]

mod access;
mod answer;
mod archive;
mod audit;
mod call;
mod dead_letters;
mod limits;
mod masking;
mod openapi;
mod operations;
mod places;
mod reception;
mod routes;
pub mod secrets;
mod server;
mod site;
mod stream;
mod tls;

pub use access::{AccessError, Entry, NewEntry, Role, Scope, Store, Token};
pub use archive::{Archive, ArchiveError};
pub use audit::{AuditError, Finding, Verified, verify as verify_audit};
pub use dead_letters::{
    DeadLetterTopic, DeadLetters, DeadLettersError, Letter, LetterKey, LetterReason, Page,
    Redriven, Wanted,
};
pub use limits::Limits;
pub use openapi::document as openapi;
pub use routes::{RouteInfo, routes};
pub use server::{Admin, AdminError, AdminOptions};
pub use site::{Asked, Host, Process};
pub use tls::{TlsFiles, certificate_digest};
