//! A guest's log lines, on their way to `tracing`.
//!
//! Rate limited for each template: a guest that logs every record must not drown the host's log or its time. Over the limit
//! lines are counted, and the count is told with the next line that passes. A line is cut at 4 KiB and control characters are
//! replaced, so that a guest cannot forge lines of the host; secrets that it was given are masked.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use etl_abi::LogLevel;

use crate::guest::unix_time;
use crate::settings::Settings;

/// Lines of one template that pass in one second.
pub(crate) const LINES_PER_SECOND: u64 = 100;
const LINE_BYTES: usize = 4 << 10;

#[derive(Debug)]
pub(crate) struct GuestLog {
    module: String,
    settings: Settings,
    second: AtomicU64,
    lines: AtomicU64,
    suppressed: AtomicU64,
}

impl GuestLog {
    pub(crate) fn new(module: &str, settings: Settings) -> Self {
        Self {
            module: module.to_owned(),
            settings,
            second: AtomicU64::new(0),
            lines: AtomicU64::new(0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Whether another line may pass in this second. Two threads that meet at the turn of a second may let a line too many pass.
    pub(crate) fn admits(&self) -> bool {
        let now = unix_time().as_secs();
        if self.second.swap(now, Ordering::Relaxed) != now {
            self.lines.store(0, Ordering::Relaxed);
        }
        let admitted = self.lines.fetch_add(1, Ordering::Relaxed) < LINES_PER_SECOND;
        if !admitted {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Writes a line that was admitted.
    pub(crate) fn write(&self, level: LogLevel, line: &[u8]) {
        // Masked as a whole: half of a secret would not be found any more.
        let text = self.settings.masked(String::from_utf8_lossy(line));
        let text = printable(&text[..text.floor_char_boundary(LINE_BYTES)]);
        let module = self.module.as_str();
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        if suppressed > 0 {
            tracing::warn!(target: "etl_guest", module, suppressed, "log lines over the rate limit were left out");
        }
        match level {
            LogLevel::Error => tracing::error!(target: "etl_guest", module, "{text}"),
            LogLevel::Warn => tracing::warn!(target: "etl_guest", module, "{text}"),
            LogLevel::Info => tracing::info!(target: "etl_guest", module, "{text}"),
            LogLevel::Debug => tracing::debug!(target: "etl_guest", module, "{text}"),
            LogLevel::Trace => tracing::trace!(target: "etl_guest", module, "{text}"),
        }
    }
}

/// Without control characters, which could forge lines or drive a terminal.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        let clean = |c: char| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        };
        return Cow::Owned(text.chars().map(clean).collect());
    }
    Cow::Borrowed(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_the_limit_are_left_out_and_counted() {
        let log = GuestLog::new("noisy", Settings::default());
        let admitted = (0..1_000).filter(|_| log.admits()).count() as u64;
        // The loop may cross a second's turn once.
        assert!(
            (LINES_PER_SECOND..=2 * LINES_PER_SECOND).contains(&admitted),
            "{admitted}"
        );
        assert_eq!(log.suppressed.load(Ordering::Relaxed), 1_000 - admitted);
    }

    #[test]
    fn a_guest_cannot_forge_a_line() {
        assert_eq!(
            printable("a\nERROR b\x1b[0m"),
            "a\u{fffd}ERROR b\u{fffd}[0m"
        );
        assert_eq!(printable("\tplain"), "\tplain");
    }
}
