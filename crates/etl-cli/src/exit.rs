//! How a command ends when it does not end well: a code, and at most one message.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use etl_broker_adapter::{AdapterError, AdapterErrorKind};

use crate::output::tell;

/// Why the program ends with another code than 0.
#[derive(Debug)]
pub struct Exit {
    code: u8,
    message: Option<String>,
}

impl Exit {
    /// 1: what was asked for could not be done.
    pub fn failed(message: impl Display) -> Self {
        Self {
            code: 1,
            message: Some(message.to_string()),
        }
    }

    /// 78, as in sysexits.h: the configuration cannot be used. The report has been printed.
    pub fn configuration() -> Self {
        Self {
            code: 78,
            message: None,
        }
    }

    /// 130, as shells say it: stopped by Ctrl-C, after what was in flight was finished.
    pub fn interrupted() -> Self {
        Self {
            code: 130,
            message: None,
        }
    }

    /// 141, as for every program in a pipeline whose reader has gone (`| head -1`): nothing more to say.
    pub fn closed_pipe() -> Self {
        Self {
            code: 141,
            message: None,
        }
    }

    /// Says why on standard error, and gives the code.
    pub fn report(self) -> ExitCode {
        if let Some(message) = self.message {
            tell!("etl: {message}");
        }
        ExitCode::from(self.code)
    }
}

impl From<AdapterError> for Exit {
    fn from(error: AdapterError) -> Self {
        match error.kind() {
            AdapterErrorKind::Closed => Self::closed_pipe(),
            _ => Self::failed(error),
        }
    }
}

/// For what is printed on standard output.
impl From<io::Error> for Exit {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::closed_pipe(),
            _ => Self::failed(format_args!("cannot write to standard output: {error}")),
        }
    }
}
