//! What the runtime reports, in our words.

use std::fmt;

use wasmer::{InstantiationError, LinkError, RuntimeError};

use super::leash::Leash;
use crate::error::{CallError, FailureKind};
use crate::guest::CallState;
use crate::guest_log::printable;

/// Why a host function ends a call.
#[derive(Debug)]
pub(super) enum Stop {
    /// The guest called `proc_exit`.
    Exit(i32),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "called proc_exit({code})"),
        }
    }
}

impl std::error::Error for Stop {}

/// Frames of the guest's stack that an error shows.
const FRAMES: usize = 5;

/// Bytes of a function's name that an error shows: the module says what it is.
const NAME: usize = 100;

pub(super) fn of_call(error: RuntimeError, state: &CallState, leash: &Leash) -> CallError {
    match leash.loosen() {
        Some(true) => {
            return CallError::new(
                FailureKind::Timeout,
                "the guest was stopped at its deadline",
            );
        }
        Some(false) => return CallError::stray(),
        None => {}
    }
    let mut message = error.message();
    let mut frames = error.trace().iter().take(FRAMES).peekable();
    if frames.peek().is_some() {
        let names: Vec<String> = frames
            .map(|frame| {
                frame.function_name().map_or_else(
                    || format!("function {}", frame.func_index()),
                    |name| printable(&name[..name.floor_char_boundary(NAME)]).into_owned(),
                )
            })
            .collect();
        message.push_str(" in ");
        message.push_str(&names.join(" < "));
    }
    if state.was_refused_memory() {
        return CallError::new(
            FailureKind::MemoryLimit,
            format!("the guest was refused memory over its limit, then failed: {message}"),
        );
    }
    CallError::new(FailureKind::Trap, message)
}

pub(super) fn of_instantiation(
    error: InstantiationError,
    state: &CallState,
    leash: &Leash,
) -> CallError {
    match error {
        InstantiationError::Start(error) | InstantiationError::Link(LinkError::Trap(error)) => {
            of_call(error, state, leash)
        }
        InstantiationError::Link(LinkError::Resource(message)) => CallError::new(
            FailureKind::PoolExhausted,
            format!("no room for another instance: {message}"),
        ),
        other => CallError::new(
            FailureKind::Trap,
            format!("the module cannot be instantiated: {other}"),
        ),
    }
}
