//! What of a document is for its authors alone.
//!
//! The rule: a value in a `custom_config` is shown to admins, who write them, and to nobody else, and is in no log. Everybody sees which
//! fields there are, and values that are nothing but a reference (`"${DB_PASSWORD}"`), which name a secret and do not tell it. Guessing by
//! the names of fields which values are secret would miss the password in a `dsn`.

use serde_json::Value;

/// The table that a document hands to its module.
const PRIVATE: &str = "custom_config";

/// What stands in the place of a value.
pub(crate) const MASK: &str = "(masked)";

/// Masks a document.
pub(crate) fn mask(document: &mut Value) {
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == PRIVATE {
                    mask_all(value);
                } else {
                    mask(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

fn mask_all(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(mask_all),
        Value::Array(items) => items.iter_mut().for_each(mask_all),
        Value::Null => {}
        value if is_reference(value) => {}
        value => *value = MASK.into(),
    }
}

/// Whether a value at this path (names with dots between them) is to be masked.
pub(crate) fn is_private(path: &str, value: &Value) -> bool {
    path.split('.').any(|step| step == PRIVATE) && !value.is_null() && !is_reference(value)
}

/// Whether a value is a reference and nothing else: not one with a default, which would be a value too.
fn is_reference(value: &Value) -> bool {
    let name = value
        .as_str()
        .and_then(|text| text.strip_prefix("${")?.strip_suffix('}'))
        .map(|name| name.strip_prefix("secret:").unwrap_or(name));
    name.is_some_and(|name| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        !name.is_empty() && name.bytes().all(is_plain)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_go_and_names_and_references_stay() {
        let mut document = json!({
            "name": "${REGION:eu}",
            "stages": [{ "modules": [{ "module_id": "m", "instance_config": { "custom_config": {
                "dsn": "postgres://u:hunter2@h", "port": 5432, "nothing": null, "list": [true, "${A}"],
                "env": "${DB_PASSWORD}", "kept": "${secret:db-password}", "default": "${A:hunter3}",
                "mixed": "${A}hunter4", "custom_config": { "deep": "hunter5" },
            } } }] }],
        });
        mask(&mut document);
        let custom = &document["stages"][0]["modules"][0]["instance_config"]["custom_config"];
        let expected = json!({
            "dsn": MASK, "port": MASK, "nothing": null, "list": [MASK, "${A}"],
            "env": "${DB_PASSWORD}", "kept": "${secret:db-password}", "default": MASK,
            "mixed": MASK, "custom_config": { "deep": MASK },
        });
        assert_eq!(*custom, expected);
        assert_eq!(document["name"], "${REGION:eu}");
        assert!(is_private("stages.0.custom_config.dsn", &json!("x")));
        assert!(!is_private("stages.0.custom_config.env", &json!("${A}")));
        assert!(!is_private("stages.0.name", &json!("x")));
    }
}
