//! Keys: 32 bytes, where they come from, and the names by which people tell them apart.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use etl_config::{KeySource, SecretError};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::random;
use crate::access::hex;

/// More than this is no key, whatever it is.
const MOST_BYTES: u64 = 4 << 10;

const FORM: &str =
    "a key is 32 bytes, or 64 hexadecimal digits: `etl secret key generate` makes one";

/// A key, overwritten when it is dropped. It is never printed but by [`Key::reveal`].
pub struct Key {
    bytes: Zeroizing<[u8; 32]>,
    from: String,
}

/// Which key it is: eight bytes of a digest, of which nothing can be learned about the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId(pub(super) [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.id())
    }
}

/// `1f2e3d4c5b6a7988 (env:ETL_SECRET_KEY)`.
impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.id(), self.from)
    }
}

impl Key {
    /// A new key, out of the system's randomness.
    ///
    /// # Errors
    /// There is no randomness to be had.
    pub fn generate() -> Result<Self, SecretError> {
        Ok(Self {
            bytes: Zeroizing::new(random()?),
            from: "new".to_owned(),
        })
    }

    /// The key that this source gives. A command is run by `sh`, and what it says on standard error is shown.
    ///
    /// # Errors
    /// It gives none, or what it gives is no key. What it is instead is not said: it may be another secret.
    pub fn read(source: &KeySource) -> Result<Self, SecretError> {
        let failed = |what: &str| {
            let message = format!("no key can be had from {source}: {what}");
            SecretError::new(message, Some(FORM.to_owned()))
        };
        let (given, may_be_raw) = match source {
            KeySource::File(path) => (from_file(path).map_err(|what| failed(&what))?, true),
            KeySource::Environment(name) => {
                let value = std::env::var_os(name);
                let value = value.ok_or_else(|| failed("the variable is not set"))?;
                let value = value.into_encoded_bytes();
                (Zeroizing::new(value), false)
            }
            KeySource::Command(command) => {
                (from_command(command).map_err(|what| failed(&what))?, true)
            }
        };
        let bytes = parse(&given, may_be_raw).ok_or_else(|| failed("what it gives is no key"))?;
        Ok(Self {
            bytes,
            from: source.to_string(),
        })
    }

    /// Which key it is.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut digest = Sha256::new();
        digest.update(b"etl key id v1\0");
        digest.update(*self.bytes);
        let mut id = [0; 8];
        id.copy_from_slice(&digest.finalize()[..8]);
        KeyId(id)
    }

    /// The key as 64 hexadecimal digits: for the file in which it will be kept.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        // As long as it will be, so that no copy stays behind.
        let mut text = Zeroizing::new(String::with_capacity(64));
        for byte in self.bytes.iter() {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// Encrypts, and binds `about` to what is encrypted.
    pub(super) fn encrypt(
        &self,
        nonce: [u8; 24],
        plain: &[u8],
        about: &[u8],
    ) -> Result<Vec<u8>, SecretError> {
        let payload = Payload {
            msg: plain,
            aad: about,
        };
        self.cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| SecretError::new("it is too large to be encrypted", None))
    }

    /// Decrypts what is whole, is of this key, and is about what it should be.
    pub(super) fn decrypt(
        &self,
        nonce: [u8; 24],
        sealed: &[u8],
        about: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let payload = Payload {
            msg: sealed,
            aad: about,
        };
        let plain = self.cipher().decrypt(&XNonce::from(nonce), payload);
        plain.ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }

    /// Says that a file is of another key.
    pub(super) fn wrong_for(&self, file: &Path, id: KeyId) -> SecretError {
        let file = file.display();
        SecretError::new(
            format!("{file} was encrypted with the key {id}, and the key that is given is {self}"),
            Some("give the key that it was encrypted with; nothing was changed".to_owned()),
        )
    }
}

fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    read(file).map_err(|error| error.to_string())
}

fn from_command(command: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("it cannot be run: {error}"))?;
    let given = child.stdout.take().map(read);
    let ended = child.wait().map_err(|error| error.to_string())?;
    if !ended.success() {
        return Err(format!("it failed: {ended}"));
    }
    match given {
        Some(Ok(given)) => Ok(given),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("it says nothing".to_owned()),
    }
}

fn read(from: impl Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // As large as it can become, so that it never moves.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES as usize));
    from.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(given: &[u8], may_be_raw: bool) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
    // 32 characters are a password or half a key, but not one in a billion keys.
    if may_be_raw && given.len() == 32 && !given.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        key.copy_from_slice(given);
        return Some(key);
    }
    let digits = given.trim_ascii();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_32_bytes_or_64_digits() {
        let text = "ab".repeat(32);
        for (given, raw, is_key) in [
            (text.as_bytes(), false, true),
            (format!(" {text}\n").as_bytes(), false, true),
            (&[0xF3; 32][..], true, true),
            (&[0xF3; 32][..], false, false),
            (&[0xF3; 31][..], true, false),
            (b"only-a-password-of-32-characters", true, false),
            ("xy".repeat(32).as_bytes(), true, false),
            (b"", true, false),
        ] {
            assert_eq!(parse(given, raw).is_some(), is_key, "{given:?}");
        }
    }

    #[test]
    fn a_key_comes_back_as_it_was_written_and_is_not_printed() {
        let key = Key::generate().expect("randomness");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        std::fs::write(&path, format!("{}\n", *key.reveal())).expect("writes");
        let read = Key::read(&KeySource::File(path.clone())).expect("is a key");
        assert_eq!((read.id(), &*read.bytes), (key.id(), &*key.bytes));
        let printed = format!("{read} {read:?} {}", read.id());
        assert!(!printed.contains(&key.reveal()[..8]), "{printed}");
        let command = KeySource::Command(format!("cat {}", path.display()));
        assert_eq!(Key::read(&command).expect("is a key").id(), key.id());
    }

    #[test]
    fn says_where_no_key_came_from_and_repeats_nothing() {
        for (source, message) in [
            ("file:/nowhere/key", "file:/nowhere/key: No such file"),
            ("env:ETL_NO_SUCH_VARIABLE", "the variable is not set"),
            ("command:echo pa55word", "what it gives is no key"),
            ("command:exit 3", "it failed: exit status: 3"),
        ] {
            let error = Key::read(&source.parse().expect("a source")).expect_err(source);
            assert!(error.message().contains(message), "{error}");
            assert!(!error.to_string().contains("pa55word"), "{error}");
        }
    }
}
