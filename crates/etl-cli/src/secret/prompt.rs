//! A question on a terminal whose answer is not shown.
//!
//! The terminal is in raw mode meanwhile and is put back whatever happens, so that Ctrl-C leaves it as it was.

use std::io::{self, Write};

use etl_config::Secret;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal;
use zeroize::Zeroizing;

use super::MOST_BYTES;
use crate::exit::Exit;
use crate::output::tell;

/// Puts the terminal back.
struct Raw;

impl Drop for Raw {
    fn drop(&mut self) {
        // Whoever cannot put it back can do no more about it than the user.
        let _ = terminal::disable_raw_mode();
    }
}

/// Asks for a secret.
pub fn ask(question: &str) -> Result<Secret, Exit> {
    let unusable = |error: io::Error| Exit::failed(format_args!("cannot ask here: {error}"));
    let mut stderr = io::stderr();
    write!(stderr, "{question}").map_err(unusable)?;
    stderr.flush().map_err(unusable)?;
    terminal::enable_raw_mode().map_err(unusable)?;
    let answered = {
        let _raw = Raw;
        answer(event::read).map_err(unusable)
    };
    tell!();
    match answered? {
        Some(text) if text.is_empty() => Err(Exit::failed("nothing was typed; nothing was set")),
        Some(text) => Ok(Secret::new(text)),
        None => Err(Exit::interrupted()),
    }
}

/// What is typed up to the end of the line; none where it was broken off.
fn answer(mut next: impl FnMut() -> io::Result<Event>) -> io::Result<Option<Zeroizing<String>>> {
    // As large as it can become, so that it never moves and leaves a copy behind.
    let most = MOST_BYTES as usize;
    let mut text = Zeroizing::new(String::with_capacity(most + 4));
    // What is too long is read to its end, or the rest would be taken for a command by whoever reads the terminal next. One character too many
    // stays, so that the whole is refused and not cut.
    let add = |text: &mut String, typed: char| {
        if text.len() <= most {
            text.push(typed);
        }
    };
    loop {
        match next()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => match key {
                KeyEvent {
                    code: KeyCode::Char('c' | 'd'),
                    modifiers: KeyModifiers::CONTROL,
                    ..
                } => return Ok(None),
                KeyEvent {
                    code: KeyCode::Char('u'),
                    modifiers: KeyModifiers::CONTROL,
                    ..
                } => text.clear(),
                KeyEvent {
                    code: KeyCode::Enter,
                    ..
                } => return Ok(Some(text)),
                KeyEvent {
                    code: KeyCode::Backspace,
                    ..
                } => {
                    text.pop();
                }
                // A command to an editor that is not here is no letter of a secret.
                KeyEvent {
                    code: KeyCode::Char(typed),
                    modifiers,
                    ..
                } if !modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
                    add(&mut text, typed);
                }
                _ => {}
            },
            Event::Paste(pasted) => pasted.chars().for_each(|typed| add(&mut text, typed)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[(KeyCode, KeyModifiers)]) -> Option<String> {
        let mut keys = keys.iter();
        let answered = answer(|| {
            let (code, modifiers) = keys.next().expect("another key");
            Ok(Event::Key(KeyEvent::new(*code, *modifiers)))
        });
        answered.expect("is read").map(|text| text.to_string())
    }

    #[test]
    fn a_line_is_read_and_can_be_mended_or_broken_off() {
        let plain = |typed| (KeyCode::Char(typed), KeyModifiers::NONE);
        let control = |typed| (KeyCode::Char(typed), KeyModifiers::CONTROL);
        let (back, enter) = (
            (KeyCode::Backspace, KeyModifiers::NONE),
            (KeyCode::Enter, KeyModifiers::NONE),
        );
        for (keys, text) in [
            (vec![plain('a'), plain('é'), enter], Some("aé")),
            (
                vec![plain('a'), plain('é'), back, plain('c'), enter],
                Some("ac"),
            ),
            (vec![plain('a'), control('u'), plain('b'), enter], Some("b")),
            (
                vec![plain('a'), control('w'), plain('b'), enter],
                Some("ab"),
            ),
            (vec![back, enter], Some("")),
            (vec![plain('a'), control('c')], None),
        ] {
            assert_eq!(typed(&keys).as_deref(), text);
        }
    }

    #[test]
    fn what_is_too_long_is_read_to_its_end_and_not_cut_to_what_could_be_set() {
        let mut left = MOST_BYTES + 100;
        let answered = answer(|| {
            left -= 1;
            let code = match left {
                0 => KeyCode::Enter,
                _ => KeyCode::Char('x'),
            };
            Ok(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
        });
        let text = answered.expect("is read").expect("an answer");
        assert_eq!((left, text.len() as u64), (0, MOST_BYTES + 1));
    }
}
