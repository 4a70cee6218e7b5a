//! How a module fails.

use core::fmt;

/// What a transform returns.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// The module could not do its work on this record.
///
/// Every `std` error converts into a permanent one, so `?` works on them. (This is why it is not itself a `std::error::Error`.)
///
/// ```
/// use etl_sdk::Error;
///
/// let error = Error::retryable("the table is not here yet").code(7);
/// assert_eq!((error.to_string().as_str(), error.is_retryable()), ("the table is not here yet", true));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    message: String,
    code: u32,
    retryable: bool,
}

impl Error {
    /// The same record will fail again.
    #[must_use]
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 0,
            retryable: false,
        }
    }

    /// The same record may succeed later.
    #[must_use]
    pub fn retryable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 0,
            retryable: true,
        }
    }

    /// Gives the failure a number of the module's own (0 where none is given).
    #[must_use]
    pub fn code(mut self, code: u32) -> Self {
        self.code = code;
        self
    }

    /// Whether the same record may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    pub(crate) fn parts(&self) -> (u32, &str, bool) {
        (self.code, &self.message, self.retryable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Error {
    /// A permanent failure with the messages of the error and of its sources.
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            message.push_str(": ");
            message.push_str(&error.to_string());
            source = error.source();
        }
        Self::permanent(message)
    }
}
