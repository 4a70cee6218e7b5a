//! JSON merge patches (RFC 7396) on text.
//!
//! What a patch does not touch keeps its bytes. A member that a patch sets to what it already says is not a change, so a patch that
//! changes nothing leaves the very same document. Of equal keys in the document the last one counts; a patch that touches such a key
//! leaves one of them.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use crate::json::{Json, Member, Members, keep_last_of_each, last_of_each};

/// Up to so many changes are looked through one by one.
const FEW: usize = 8;

/// What is no longer is copied into memory of just its length: of a buffer with room at its end, `Bytes` would keep the length in an allocation of its own.
const COPIED: usize = 4096;

/// Why a patch could not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchError {
    /// The patch is not JSON.
    Patch,
    /// The value that it should change is not JSON.
    Target,
}

impl fmt::Display for PatchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Patch => "the merge patch is not JSON",
            Self::Target => "a merge patch needs a value that is JSON, and this one is not",
        })
    }
}

/// The document after the patch, or `None` where it changes nothing.
pub(crate) fn apply(target: &[u8], patch: &[u8]) -> Result<Option<Bytes>, PatchError> {
    let mut changes = Members::new();
    let patch = Json::parse_members(patch, &mut changes).ok_or(PatchError::Patch)?;
    let mut members = Members::new();
    let target = Json::parse_members(target, &mut members).ok_or(PatchError::Target)?;
    let patched = if patch.is_object() && target.is_object() {
        patched_members((target, &members), (patch, &mut changes))
    } else {
        patched(target, patch)
    };
    Ok(patched.map(|text| {
        if text.len() <= COPIED {
            Bytes::copy_from_slice(text.as_bytes())
        } else {
            text.into_owned().into()
        }
    }))
}

/// The patch that makes one document of the other, or `None` where none can: one of them is not an object. Both are JSON.
///
/// Members that are null after can only have been so before: a patch cannot write them.
pub(crate) fn difference(before: &[u8], after: &[u8]) -> Option<Vec<u8>> {
    let (before, after) = (Json::parse(before)?, Json::parse(after)?);
    (before.is_object() && after.is_object()).then(|| differing(before, after).into_bytes())
}

/// Whether two patches, each a [`difference`] from the same document, write different things to the same place.
pub(crate) fn conflict(left: &[u8], right: &[u8]) -> bool {
    match (Json::parse(left), Json::parse(right)) {
        (Some(left), Some(right)) => differ(left, right),
        _ => true,
    }
}

fn patched<'a>(target: Json<'a>, patch: Json<'a>) -> Option<Cow<'a, str>> {
    if !patch.is_object() {
        return (!target.same(patch)).then(|| Cow::Borrowed(patch.text()));
    }
    if !target.is_object() {
        return Some(without_nulls(patch).into());
    }
    patched_members((target, &target.members()), (patch, &mut patch.members()))
}

/// As [`patched`], of two objects whose members are known.
fn patched_members<'a>(
    (target, members): (Json<'a>, &[Member<'a>]),
    (patch, changes): (Json<'a>, &mut [Member<'a>]),
) -> Option<Cow<'a, str>> {
    let kept = keep_last_of_each(changes);
    let changes = &changes[..kept];
    // For every change the last member of its key: earlier ones are hidden by it and go.
    let mut last: SmallVec<[Option<usize>; 8]> = smallvec![None; changes.len()];
    let found: SmallVec<[Option<usize>; 16]> = members
        .iter()
        .map(|member| position(changes, &member.key))
        .collect();
    for (index, position) in found.iter().enumerate() {
        if let Some(position) = position {
            last[*position] = Some(index);
        }
    }

    // What stands between two members is kept where both are kept, so that people's formatting survives.
    let text = target.text();
    let separator = match members {
        [first, second, ..] => &text[first.span.end..second.span.start],
        _ => ",",
    };
    let mut out = String::with_capacity(text.len() + patch.text().len());
    let mut changed = false;
    let mut written = 0_usize;
    // Kept, and not copied yet. It is copied at the next change, so that what nothing touches goes in one piece.
    let mut kept = 0..members.first().map_or(1, |member| member.span.start);
    let mut is_first_after_gap = false;
    for (index, (member, position)) in members.iter().zip(found).enumerate() {
        let mut replacement = None;
        if let Some(position) = position {
            let value = changes[position].value;
            if last[position] != Some(index) || value.is_null() {
                changed = true;
                out.push_str(&text[std::mem::take(&mut kept)]);
                is_first_after_gap = true;
                continue;
            }
            replacement = patched(member.value, value);
        }
        if std::mem::take(&mut is_first_after_gap) {
            if written > 0 {
                out.push_str(separator);
            }
            kept.start = member.span.start;
        }
        kept.end = member.span.end;
        if let Some(value) = replacement {
            changed = true;
            out.push_str(&text[kept.start..kept.end - member.value.text().len()]);
            out.push_str(&value);
            kept.start = kept.end;
        }
        written += 1;
    }
    out.push_str(&text[kept]);
    for (change, last) in changes.iter().zip(last) {
        if last.is_some() || change.value.is_null() {
            continue;
        }
        changed = true;
        if written > 0 {
            out.push_str(separator);
        }
        push_member(&mut out, patch, change);
        written += 1;
    }
    out.push_str(&text[members.last().map_or(1, |member| member.span.end)..]);
    changed.then_some(out.into())
}

/// Where the change of a key is, of changes that are sorted.
fn position(changes: &[Member<'_>], key: &str) -> Option<usize> {
    if changes.len() <= FEW {
        // Mostly the lengths differ, which is quicker to see than an order.
        return changes.iter().position(|change| change.key == key);
    }
    changes
        .binary_search_by(|change| change.key.as_ref().cmp(key))
        .ok()
}

/// Marks every member that a later one of the same key hides.
fn hidden_by_later(members: &[Member<'_>]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|&left, &right| {
        members[left]
            .key
            .cmp(&members[right].key)
            .then(left.cmp(&right))
    });
    let mut hidden = vec![false; members.len()];
    for pair in order.windows(2) {
        hidden[pair[0]] = members[pair[0]].key == members[pair[1]].key;
    }
    hidden
}

/// A member of a patch as a member of a document that does not have it yet.
fn push_member(out: &mut String, patch: Json<'_>, member: &Member<'_>) {
    let text = &patch.text()[member.span.clone()];
    out.push_str(&text[..text.len() - member.value.text().len()]);
    if member.value.is_object() {
        out.push_str(&without_nulls(member.value));
    } else {
        out.push_str(member.value.text());
    }
}

/// What a patch makes of an empty object. Members come out in the order of the patch.
fn without_nulls(patch: Json<'_>) -> String {
    let members = patch.members();
    let hidden = hidden_by_later(&members);
    let mut out = String::with_capacity(patch.text().len());
    out.push('{');
    for (index, member) in members.iter().enumerate() {
        if hidden[index] || member.value.is_null() {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        push_member(&mut out, patch, member);
    }
    out.push('}');
    out
}

fn differing(before: Json<'_>, after: Json<'_>) -> String {
    let (before, members) = (
        last_of_each(before.members()),
        last_of_each(after.members()),
    );
    let mut out = String::from("{");
    let mut write = |key: &str, value: &str| {
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(key);
        out.push_str(value);
    };
    for old in &before {
        let found = members
            .binary_search_by(|new| new.key.cmp(&old.key))
            .ok()
            .map(|place| &members[place]);
        match found {
            None => write(old.key_text, ":null"),
            Some(new) if old.value.is_object() && new.value.is_object() => {
                let inner = differing(old.value, new.value);
                if inner != "{}" {
                    write(old.key_text, &format!(":{inner}"));
                }
            }
            Some(new) if old.value.same(new.value) => {}
            Some(new) => write(old.key_text, &format!(":{}", new.value.text())),
        }
    }
    for new in &members {
        if before
            .binary_search_by(|old| old.key.cmp(&new.key))
            .is_err()
        {
            write(new.key_text, &format!(":{}", new.value.text()));
        }
    }
    out.push('}');
    out
}

fn differ(left: Json<'_>, right: Json<'_>) -> bool {
    if !(left.is_object() && right.is_object()) {
        return !left.same(right);
    }
    let others = last_of_each(right.members());
    last_of_each(left.members()).iter().any(|member| {
        others
            .binary_search_by(|other| other.key.cmp(&member.key))
            .is_ok_and(|position| differ(member.value, others[position].value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn text(target: &str, patch: &str) -> Option<String> {
        apply(target.as_bytes(), patch.as_bytes())
            .expect("JSON")
            .map(|bytes| String::from_utf8(bytes.into()).expect("UTF-8"))
    }

    /// RFC 7396, appendix A, to the letter.
    #[test]
    fn cases_of_the_rfc() {
        let cases = [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ];
        for (target, patch, expected) in cases {
            assert_eq!(
                text(target, patch).as_deref(),
                Some(expected),
                "{target} + {patch}"
            );
        }
    }

    #[test]
    fn leaves_alone_what_it_does_not_touch() {
        let target = "{ \"big\": 12345678901234567890.10, \"s\": \"\\u00e9\",\n  \"n\": 1 }";
        assert_eq!(
            text(target, r#"{"n":2}"#).as_deref(),
            Some("{ \"big\": 12345678901234567890.10, \"s\": \"\\u00e9\",\n  \"n\": 2 }")
        );
        assert_eq!(
            text(target, r#"{"s":null,"t":0}"#).as_deref(),
            Some("{ \"big\": 12345678901234567890.10, \"n\": 1, \"t\":0 }")
        );
        assert_eq!(text(target, r#"{"s":"é","n":1,"x":null}"#), None);
    }

    #[test]
    fn says_which_side_is_not_json() {
        assert_eq!(apply(b"plain", b"{}"), Err(PatchError::Target));
        assert_eq!(apply(b"{}", b"{"), Err(PatchError::Patch));
    }

    /// The definition of RFC 7396, section 2, over parsed values.
    fn naive(target: &Value, patch: &Value) -> Value {
        let Value::Object(patch) = patch else {
            return patch.clone();
        };
        let mut result = target.as_object().cloned().unwrap_or_else(Map::new);
        for (key, value) in patch {
            if value.is_null() {
                result.remove(key);
            } else {
                let merged = naive(result.get(key).unwrap_or(&Value::Null), value);
                result.insert(key.clone(), merged);
            }
        }
        Value::Object(result)
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3_i64..3).prop_map(Value::from),
            "[a\"\\\\é]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"]{1,1}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn render(value: &Value, pretty: bool) -> Vec<u8> {
        if pretty {
            serde_json::to_vec_pretty(value)
        } else {
            serde_json::to_vec(value)
        }
        .expect("JSON")
    }

    fn parse(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("the result is JSON")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn agrees_with_the_definition(target in document(), patch in document(), pretty: bool) {
            let before = render(&target, pretty);
            let after = apply(&before, &render(&patch, false)).expect("JSON");
            let expected = naive(&target, &patch);
            prop_assert_eq!(after.is_some(), expected != target, "a change that changes nothing, or the reverse");
            prop_assert_eq!(parse(after.as_deref().unwrap_or(&before)), expected);
        }

        #[test]
        fn the_difference_does_what_the_patch_did(target in document(), patch in document()) {
            let before = render(&target, false);
            let after = apply(&before, &render(&patch, false)).expect("JSON").map_or_else(|| before.clone(), Vec::from);
            if let Some(difference) = difference(&before, &after) {
                prop_assert_eq!(naive(&target, &parse(&difference)), parse(&after));
                prop_assert_eq!(difference == b"{}", before == after, "no more than what differs");
            }
        }

        #[test]
        fn patches_that_do_not_conflict_commute(target in document(), left in document(), right in document()) {
            let before = render(&target, false);
            let patched = |patch: &Value| apply(&before, &render(patch, false)).expect("JSON").map_or_else(|| before.clone(), Vec::from);
            let (one, two) = (difference(&before, &patched(&left)), difference(&before, &patched(&right)));
            if let (Some(one), Some(two)) = (one, two)
                && !conflict(&one, &two) {
                    let (one, two) = (parse(&one), parse(&two));
                    prop_assert_eq!(naive(&naive(&target, &one), &two), naive(&naive(&target, &two), &one));
                }
        }
    }

    #[test]
    fn conflicts_are_about_the_same_place() {
        let conflicts = |left: Value, right: Value| {
            conflict(left.to_string().as_bytes(), right.to_string().as_bytes())
        };
        assert!(conflicts(json!({"a": 1}), json!({"a": 2})));
        assert!(conflicts(json!({"a": {"b": 1}}), json!({"a": null})));
        assert!(!conflicts(json!({"a": {"b": 1}}), json!({"a": {"c": 1}})));
        assert!(!conflicts(json!({"a": 1}), json!({"a": 1, "b": 2})));
    }
}
