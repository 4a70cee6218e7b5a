//! HTTP/1.1, as far as an API for operators needs it: requests in, answers out, and bounds on everything that comes from outside.
//!
//! `httparse` reads what a request's head says; `head` decides what of it is believed, `body` reads what follows, and `connection` keeps
//! the order of things: who is asking is settled before a byte of the body is read, so that strangers cannot make the process hold
//! anything. What is ambiguous (two lengths, a length and chunks, folded headers) is refused and not guessed.
//!
//! Why there is no HTTP library here: see `docs/decisions.md`.

mod answer;
mod body;
mod connection;
mod head;
mod limits;

pub(crate) use answer::{Answer, JSON, TEXT};
pub(crate) use connection::{Handler, Peer, serve};
pub(crate) use head::{Head, decoded};
pub use limits::Limits;
