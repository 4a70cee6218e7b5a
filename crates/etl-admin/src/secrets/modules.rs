//! Modules that were stored through the API, and generations, under another key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use etl_config::SecretError;

use super::{Key, failed, is_sealed, replace, reseal};
use crate::archive::GENERATION;

/// Encrypts every encrypted module and generation in these folders anew. Each file is replaced by itself, so that one that is interrupted leaves some
/// under each key; done again, it goes on where it was. Answers how many are under the new key.
///
/// # Errors
/// One cannot be read, is of neither key, or cannot be written. Those before it are done; none is lost.
pub fn rotate_files(old: &Key, new: &Key, folders: &[PathBuf]) -> Result<usize, SecretError> {
    let mut found = Vec::new();
    for folder in folders {
        found.extend(sealed_in(folder)?);
    }
    // All are looked at before the first is written: a wrong key is found while nothing has changed.
    let mut pending = Vec::new();
    for file in &found {
        let sealed = fs::read(file).map_err(|error| failed(file, error))?;
        if reseal(old, new, file, &sealed)?.is_some() {
            pending.push(file);
        }
    }
    for file in pending {
        let sealed = fs::read(file).map_err(|error| failed(file, error))?;
        if let Some(resealed) = reseal(old, new, file, &sealed)? {
            replace(file, &resealed).map_err(|error| failed(file, error))?;
        }
    }
    Ok(found.len())
}

fn sealed_in(folder: &Path) -> Result<Vec<PathBuf>, SecretError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| failed(folder, error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(folder, error))?.path();
        if path
            .extension()
            .is_none_or(|extension| extension != "wasm" && extension != GENERATION)
        {
            continue;
        }
        let begins = fs::File::open(&path).and_then(|file| {
            let mut head = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, 8), &mut head)?;
            Ok(is_sealed(&head))
        });
        if begins.map_err(|error| failed(&path, error))? {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{open, seal};

    #[test]
    fn what_was_interrupted_is_finished_by_the_same_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (old, new) = (
            Key::generate().expect("a key"),
            Key::generate().expect("a key"),
        );
        let put = |name: &str, content: &[u8]| {
            fs::write(folder.path().join(name), content).expect("writes");
        };
        let read = |name: &str| fs::read(folder.path().join(name)).expect("reads");
        put("a.wasm", &seal(&old, b"one").expect("seals"));
        // As if the process had died after this one.
        put("b.wasm", &seal(&new, b"two").expect("seals"));
        put("plain.wasm", b"\0asm");
        put("other.txt", b"x");
        let folders = [folder.path().to_owned(), folder.path().join("nowhere")];
        for _ in 0..2 {
            assert_eq!(rotate_files(&old, &new, &folders), Ok(2));
            for (name, content) in [("a.wasm", b"one"), ("b.wasm", b"two")] {
                let opened = open(&new, Path::new(name), &read(name)).expect("opens");
                assert_eq!(opened.as_slice(), content);
            }
        }
        assert_eq!(read("plain.wasm"), b"\0asm");
    }

    #[test]
    fn a_wrong_key_is_found_while_nothing_has_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = || Key::generate().expect("a key");
        let (one, two, new) = (key(), key(), key());
        let put = |name: &str, content: &[u8]| {
            fs::write(folder.path().join(name), content).expect("writes");
        };
        let first = seal(&one, b"one").expect("seals");
        put("a.wasm", &first);
        put("b.wasm", &seal(&two, b"two").expect("seals"));
        let error = rotate_files(&one, &new, &[folder.path().to_owned()]).expect_err("is found");
        assert!(error.message().contains("b.wasm"), "{error}");
        assert_eq!(
            fs::read(folder.path().join("a.wasm")).expect("reads"),
            first
        );
    }
}
