//! Tests of the file of secrets: what it keeps, and that nothing done to it goes unseen.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

struct Desk {
    folder: TempDir,
    store: SecretStore,
    key: Key,
}

fn desk() -> Desk {
    let folder = tempfile::tempdir().expect("a folder");
    Desk {
        store: SecretStore::at(folder.path().join("etl.secrets")),
        key: Key::generate().expect("randomness"),
        folder,
    }
}

impl Desk {
    fn set(&self, name: &str, value: &str) -> bool {
        let value = Secret::new(value.to_owned());
        self.store.set(&self.key, name, value).expect("is set")
    }

    fn clear(&self, key: &Key) -> BTreeMap<String, String> {
        let secrets = self.store.secrets(key).expect("opens").into_iter();
        secrets
            .map(|(name, value)| (name, value.reveal().to_owned()))
            .collect()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.store.path).expect("is there")
    }
}

#[test]
fn keeps_what_is_set_and_shows_none_of_it() {
    let desk = desk();
    assert_eq!(desk.store.list(&desk.key), Ok(Vec::new()));
    assert!(desk.set("db", "canary-1"));
    assert!(desk.set("token", ""));
    assert!(!desk.set("db", "canary-2"));
    let expected = [("db", "canary-2"), ("token", "")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(desk.clear(&desk.key), expected.into());
    let bytes = desk.bytes();
    assert!(!bytes.windows(6).any(|part| part == b"canary"));
    let mode = fs::metadata(&desk.store.path)
        .expect("is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    desk.store.remove(&desk.key, "token").expect("is removed");
    let error = desk.store.remove(&desk.key, "token").expect_err("is gone");
    assert!(
        error.message().contains("no secret is called `token`"),
        "{error}"
    );
    let listed = desk.store.list(&desk.key).expect("opens");
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (
            listed[0].name.as_str(),
            listed[0].changed >= listed[0].created
        ),
        ("db", true)
    );
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused_with_the_file_named() {
    let desk = desk();
    desk.set("db", "hunter2");
    desk.set("token", "t0p");
    let bytes = desk.bytes();
    let path = desk.store.path.display().to_string();
    let refused = |what: &[u8], about: &str| {
        fs::write(&desk.store.path, what).expect("writes");
        for error in [
            desk.store.secrets(&desk.key).expect_err(about),
            desk.store
                .set(&desk.key, "new", Secret::new("x".to_owned()))
                .expect_err(about),
            desk.store
                .rotate(&desk.key, &Key::generate().expect("randomness"))
                .expect_err(about),
        ] {
            assert!(error.message().contains(&path), "{about}: {error}");
        }
        // What could not be read is as it was.
        assert_eq!(desk.bytes(), what, "{about}");
    };
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        refused(&flipped, &format!("flipped at {at}"));
        refused(&bytes[..at], &format!("cut at {at}"));
    }
    let mut longer = bytes.clone();
    longer.push(0);
    refused(&longer, "one byte more");
    fs::write(&desk.store.path, &bytes).expect("writes");
    assert_eq!(desk.clear(&desk.key).len(), 2);
}

#[test]
fn an_entry_cannot_take_the_place_of_another() {
    let desk = desk();
    desk.set("aa", "value-of-aa");
    desk.set("bb", "value-of-bb");
    // Names of the same length: what is swapped are whole bytes of the file.
    let mut bytes = desk.bytes();
    let find = |bytes: &[u8], name: &[u8]| bytes.windows(2).position(|part| part == name);
    let (one, two) = (
        find(&bytes, b"aa").expect("a"),
        find(&bytes, b"bb").expect("b"),
    );
    for offset in 0..2 {
        bytes.swap(one + offset, two + offset);
    }
    fs::write(&desk.store.path, bytes).expect("writes");
    desk.store.secrets(&desk.key).expect_err("is found");
}

#[test]
fn another_key_is_told_by_both_ids_and_changes_nothing() {
    let desk = desk();
    desk.set("db", "hunter2");
    let before = desk.bytes();
    let other = Key::generate().expect("randomness");
    let value = || Secret::new("x".to_owned());
    for error in [
        desk.store.secrets(&other).expect_err("is of another key"),
        desk.store.list(&other).expect_err("is of another key"),
        desk.store
            .set(&other, "db", value())
            .expect_err("is of another key"),
        desk.store
            .remove(&other, "db")
            .expect_err("is of another key"),
    ] {
        for part in [
            "etl.secrets",
            &desk.key.id().to_string(),
            &other.id().to_string(),
        ] {
            assert!(error.message().contains(part), "{error}");
        }
    }
    assert_eq!(desk.bytes(), before);
}

#[test]
fn rotates_and_can_be_told_to_again() {
    let desk = desk();
    let new = Key::generate().expect("randomness");
    let error = desk
        .store
        .rotate(&desk.key, &new)
        .expect_err("there is none");
    assert!(error.message().contains("there is no such file"), "{error}");
    desk.set("db", "hunter2");
    assert_eq!(desk.store.rotate(&desk.key, &new), Ok(1));
    assert_eq!(desk.store.key_id(), Ok(Some(new.id())));
    let rotated = desk.bytes();
    assert_eq!(desk.store.rotate(&desk.key, &new), Ok(1));
    assert_eq!(desk.bytes(), rotated);
    assert_eq!(desk.clear(&new)["db"], "hunter2");
    desk.store
        .secrets(&desk.key)
        .expect_err("is of the new key");
}

#[test]
fn what_a_killed_writer_left_beside_it_is_not_read() {
    let desk = desk();
    desk.set("db", "hunter2");
    let beside = desk.folder.path().join("etl.secrets.new");
    fs::write(&beside, &desk.bytes()[..20]).expect("writes");
    assert_eq!(desk.clear(&desk.key)["db"], "hunter2");
    desk.set("db", "hunter3");
    assert_eq!(desk.clear(&desk.key)["db"], "hunter3");
    assert!(!beside.exists());
}

#[test]
fn what_cannot_be_a_secret_is_refused() {
    let desk = desk();
    let too_long = "x".repeat(MAX_VALUE_BYTES + 1);
    for (name, value, message) in [
        ("", "x", "is not the name"),
        ("a b", "x", "is not the name"),
        ("../x", "x", "is not the name"),
        ("x", too_long.as_str(), "are more than"),
    ] {
        let value = Secret::new(value.to_owned());
        let error = desk.store.set(&desk.key, name, value).expect_err(name);
        assert!(error.message().contains(message), "{error}");
    }
    assert!(!desk.store.path.exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// A map in memory, in lockstep with the file.
    #[test]
    fn keeps_what_a_map_keeps(steps in prop::collection::vec((0..5_usize, "\\PC{0,40}", 0..4_u8), 1..12)) {
        let mut desk = desk();
        let mut map = BTreeMap::new();
        for (name, value, what) in steps {
            let name = format!("name-{name}");
            match what {
                0 => prop_assert_eq!(desk.store.remove(&desk.key, &name).is_ok(), map.remove(&name).is_some()),
                1 if !map.is_empty() => {
                    let new = Key::generate().expect("randomness");
                    prop_assert_eq!(desk.store.rotate(&desk.key, &new), Ok(map.len()));
                    desk.key = new;
                }
                _ => prop_assert_eq!(desk.set(&name, &value), map.insert(name.clone(), value).is_none()),
            }
            if desk.store.path.exists() {
                prop_assert_eq!(&desk.clear(&desk.key), &map);
            }
        }
    }
}
