//! Case folding: one definition, used by every kind of filter on both sides.
//!
//! Two characters are equal without regard to case where Unicode **simple** case folding says so: character for character,
//! no locale, no expansion. `K` (U+212A, Kelvin) equals `k`; `ß` equals `ẞ` but not `ss`; `İ` and `ı` equal only themselves.
//! The same relation is what `(?i)` means to the regex crates, so kinds cannot disagree.
//!
//! Folding maps each character to one member of its class: the shortest in UTF-8, lower case among equals. A folded text is
//! therefore never longer than the text, which lets a scratch buffer be sized once. Bytes that are not UTF-8 stay as they are.

use crate::fold_table::RUNS;

/// The member of `character`'s class that stands for all of it.
pub(crate) fn fold_char(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_lowercase();
    }
    let code = u32::from(character);
    let after = RUNS.partition_point(|run| run.0 <= code);
    let Some(&(first, last, step, distance)) = after.checked_sub(1).and_then(|at| RUNS.get(at))
    else {
        return character;
    };
    if code > last || !(code - first).is_multiple_of(step) {
        return character;
    }
    code.checked_add_signed(distance)
        .and_then(char::from_u32)
        .unwrap_or(character)
}

/// `text`, folded.
pub(crate) fn fold_str(text: &str) -> String {
    text.chars().map(fold_char).collect()
}

/// Replaces what `out` holds with `text`, folded. Allocates only if `out` is smaller than `text`.
pub(crate) fn fold_into(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(text);
    if text.is_ascii() {
        out.make_ascii_lowercase();
        return;
    }
    out.clear();
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut buffer = [0; 4];
            out.extend_from_slice(fold_char(character).encode_utf8(&mut buffer).as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
}

/// Whether folding is the identity on everything that could equal `text`: no character of it has another case.
pub(crate) fn is_caseless(text: &str) -> bool {
    text.chars().all(|character| !has_other_case(character))
}

/// Whether some other character folds to the same one.
fn has_other_case(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_alphabetic();
    }
    // A representative that others fold to is found by its distance: what maps to it is a member of some run.
    let code = u32::from(character);
    fold_char(character) != character
        || RUNS.iter().any(|&(first, last, step, distance)| {
            code.checked_add_signed(-distance).is_some_and(|source| {
                (first..=last).contains(&source) && (source - first).is_multiple_of(step)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

    /// All characters equal to `character`, by regex-syntax's own table.
    fn class_of(character: char) -> Vec<char> {
        let mut class = ClassUnicode::new([ClassUnicodeRange::new(character, character)]);
        class
            .try_case_fold_simple()
            .expect("the unicode-case feature is on");
        class
            .iter()
            .flat_map(|range| range.start()..=range.end())
            .collect()
    }

    #[test]
    fn the_table_is_what_regex_syntax_folds() {
        // A few hundred characters under Miri, every character elsewhere.
        let stride = if cfg!(miri) { 4_001 } else { 1 };
        for character in (0..=u32::from(char::MAX))
            .step_by(stride)
            .filter_map(char::from_u32)
        {
            let class = class_of(character);
            let expected = class
                .iter()
                .copied()
                .min_by_key(|member| (member.len_utf8(), !member.is_lowercase(), *member))
                .expect("a class holds its own member");
            assert_eq!(
                fold_char(character),
                expected,
                "U+{:04X}",
                u32::from(character)
            );
            assert_eq!(
                has_other_case(character),
                class.len() > 1,
                "U+{:04X}",
                u32::from(character)
            );
        }
    }

    #[test]
    fn folding_is_idempotent_and_never_longer() {
        // Some runs of the table under Miri, all of them elsewhere.
        let stride = if cfg!(miri) { 16 } else { 1 };
        for &(first, last, step, _) in RUNS.iter().step_by(stride) {
            for code in (first..=last).step_by(step as usize) {
                let character = char::from_u32(code).expect("the table holds characters");
                let folded = fold_char(character);
                assert_eq!(fold_char(folded), folded);
                assert!(folded.len_utf8() <= character.len_utf8());
            }
        }
    }

    #[test]
    fn bytes_that_are_not_utf8_stay() {
        let mut out = Vec::new();
        fold_into(b"A\xFF\xC3K\xE2\x84\xAA\xE2\x84", &mut out);
        assert_eq!(out, b"a\xFF\xC3kk\xE2\x84");
    }

    #[test]
    fn the_cases_people_ask_about() {
        assert_eq!(fold_str("STRASSE"), "strasse");
        assert_eq!(fold_str("ẞ"), fold_str("ß"));
        assert_ne!(fold_str("ß"), fold_str("ss"));
        assert_eq!(fold_str("\u{212A}"), "k");
        assert_ne!(fold_str("İ"), fold_str("i"));
        assert_ne!(fold_str("ı"), fold_str("i"));
        assert_eq!(fold_str("ΣΑΣ"), fold_str("σας"));
        assert!(is_caseless("123.-_/日本"));
        assert!(!is_caseless("k") && !is_caseless("ß") && !is_caseless("ſ"));
    }
}
