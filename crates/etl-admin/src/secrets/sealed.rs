//! Files that are encrypted as a whole: modules that came through the API.
//!
//! ```text
//! magic     8 bytes   "ETLSEAL" and a zero
//! version   2 bytes   1, little endian
//! key id    8 bytes   which key opens it
//! nonce    24 bytes
//! content             XChaCha20-Poly1305; the 18 bytes before the nonce are bound to it
//! ```
//!
//! No WASM file begins like this, so a folder may hold modules of both kinds.

use std::path::Path;

use etl_config::SecretError;
use zeroize::Zeroizing;

use super::{Key, KeyId, VERSION, failed, random};

const MAGIC: &[u8; 8] = b"ETLSEAL\0";
const HEAD: usize = 18;
const NONCE: usize = 24;

/// Whether bytes are those of an encrypted file.
#[must_use]
pub fn is_sealed(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The content of a file, encrypted.
///
/// # Errors
/// There is no randomness to be had.
pub fn seal(key: &Key, plain: &[u8]) -> Result<Vec<u8>, SecretError> {
    let nonce = random::<NONCE>()?;
    let mut sealed = Vec::with_capacity(HEAD + NONCE + plain.len() + 16);
    sealed.extend(MAGIC);
    sealed.extend(VERSION.to_le_bytes());
    sealed.extend(key.id().0);
    let content = key.encrypt(nonce, plain, &sealed)?;
    sealed.extend(nonce);
    sealed.extend(content);
    Ok(sealed)
}

/// The content of an encrypted file, which must be whole and of this key. The file is only named.
///
/// # Errors
/// It is not, with the ids of both keys where they differ.
pub fn open(key: &Key, file: &Path, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let id = key_of(file, sealed)?;
    if id != key.id() {
        return Err(key.wrong_for(file, id));
    }
    let (head, rest) = sealed.split_at(HEAD);
    let opened = rest.split_first_chunk::<NONCE>();
    let opened = opened.and_then(|(nonce, content)| key.decrypt(*nonce, content, head));
    opened.ok_or_else(|| {
        failed(
            file,
            "the encrypted file is damaged: it is not what was written",
        )
    })
}

/// The same file under another key; `None` where it is under that one already.
///
/// # Errors
/// It is of neither key, or damaged.
pub fn reseal(
    old: &Key,
    new: &Key,
    file: &Path,
    sealed: &[u8],
) -> Result<Option<Vec<u8>>, SecretError> {
    if key_of(file, sealed)? == new.id() {
        open(new, file, sealed)?;
        return Ok(None);
    }
    seal(new, &open(old, file, sealed)?).map(Some)
}

/// Which key an encrypted file is of.
pub(super) fn key_of(file: &Path, sealed: &[u8]) -> Result<KeyId, SecretError> {
    let head = sealed.get(8..HEAD).filter(|_| is_sealed(sealed));
    let head = head.and_then(|head| head.split_first_chunk::<2>());
    let Some((version, id)) = head else {
        return Err(failed(file, "not an encrypted file, or cut off"));
    };
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        let what = format!("an encrypted file of version {version}; known is {VERSION}");
        return Err(failed(file, what));
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(id);
    Ok(KeyId(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::generate().expect("randomness")
    }

    #[test]
    fn comes_back_and_looks_like_nothing() {
        let (key, file) = (key(), Path::new("m.wasm"));
        let sealed = seal(&key, b"\0asm and so on").expect("seals");
        assert!(is_sealed(&sealed));
        assert!(!sealed.windows(4).any(|part| part == b"\0asm"));
        assert_eq!(
            open(&key, file, &sealed).expect("opens").as_slice(),
            b"\0asm and so on"
        );
        assert_ne!(seal(&key, b"\0asm and so on").expect("seals"), sealed);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let (key, file) = (key(), Path::new("m.wasm"));
        let sealed = seal(&key, b"module").expect("seals");
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut flipped = sealed.clone();
                flipped[at] ^= 1 << bit;
                let error = open(&key, file, &flipped).expect_err("is found");
                assert!(error.message().starts_with("m.wasm"), "{error}");
            }
            open(&key, file, &sealed[..at]).expect_err("is found");
        }
    }

    #[test]
    fn another_key_is_told_by_both_ids() {
        let (one, two, file) = (key(), key(), Path::new("m.wasm"));
        let sealed = seal(&one, b"module").expect("seals");
        let error = open(&two, file, &sealed).expect_err("is of another key");
        for part in ["m.wasm", &one.id().to_string(), &two.id().to_string()] {
            assert!(error.message().contains(part), "{error}");
        }
        let again = reseal(&one, &two, file, &sealed)
            .expect("reseals")
            .expect("it changed");
        assert_eq!(
            open(&two, file, &again).expect("opens").as_slice(),
            b"module"
        );
        assert_eq!(reseal(&one, &two, file, &again).expect("is there"), None);
        reseal(&two, &two, file, &sealed).expect_err("is of another key");
    }
}
