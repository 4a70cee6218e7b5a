//! Standard output, standard error, and numbers as people read them.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde_json::Value;

use crate::exit::Exit;

/// Prints text on standard output. A reader that has gone is no failure that needs a message.
pub fn print(text: &str) -> Result<(), Exit> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Tells something on standard error: a line, as `eprintln!` would.
///
/// What a command has to say about its work is not its work. Where nobody can hear it, because the disk of a log is full or the reader of a pipe has
/// gone, the command goes on and ends with the code that it has; `eprintln!` would end it in a panic.
macro_rules! tell {
    () => { $crate::output::tell_text("\n") };
    ($($argument:tt)*) => { $crate::output::tell_text(&format!("{}\n", format_args!($($argument)*))) };
}
pub(crate) use tell;

/// The same for text that has its line breaks already.
pub fn tell_text(text: &str) {
    // At once, so that lines of several threads stay whole. Nobody is left to be told of an error here.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Prints one JSON document, indented for people on a terminal as well as in a pipe.
pub fn print_json(value: &Value) -> Result<(), Exit> {
    print(&format!("{value:#}\n"))
}

/// Whether problems are shown in colour: on a terminal, unless `NO_COLOR` is set.
pub fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// `1234567` as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 record`, `2 records`.
pub fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number))
}

/// A time with as much detail as it deserves: `2.41 s`, `3 min 07 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{:.2} s", time.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(0, "record"), "0 records");
    }

    #[test]
    fn times_are_short() {
        assert_eq!(duration(Duration::from_millis(2_414)), "2.41 s");
        assert_eq!(duration(Duration::from_secs(187)), "3 min 07 s");
    }
}
