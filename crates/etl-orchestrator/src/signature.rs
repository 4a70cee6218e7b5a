//! Signed modules: a signature that travels inside the module's own file.
//!
//! It is the last section of the file, a custom section that every engine skips, and covers every byte before it. So it goes wherever the
//! module goes, by file, by the API or by an object store, and nothing can be added behind it. What is signed is the module and a
//! prefix that nothing else is signed with, so that a signature that a key has made elsewhere cannot be used here.
//!
//! ```
//! use etl_orchestrator::signature::{SigningKey, sign, verify};
//! let key = SigningKey::from_bytes(&[7; 32]);
//! let module = b"\0asm\x01\0\0\0";
//! let signed = sign(module, &key);
//! let trusted = key.verifying_key().to_bytes();
//! assert_eq!(verify(&signed, &[trusted]), Ok(trusted));
//! assert!(verify(module, &[trusted]).is_err());
//! ```

use std::fmt;

pub use ed25519_dalek::SigningKey;
use ed25519_dalek::{Signature, Signer, VerifyingKey};

const NAME: &[u8] = b"etl.signature";
const VERSION: u8 = 1;
const PREFIX: &[u8] = b"etl module signature 1\0";
/// What follows the section's id and length: the length of the name, the name, the version, the key and the signature.
const CONTENT: usize = 1 + NAME.len() + 1 + 32 + 64;
const SECTION: usize = 2 + CONTENT;

/// Why a module is not to be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// It has no signature at its end.
    Unsigned,
    /// It was signed with this key, which is not a trusted one.
    Untrusted([u8; 32]),
    /// It is not what was signed with the key that it names.
    Wrong([u8; 32]),
}

impl fmt::Display for SignatureError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => formatter.write_str("it is not signed"),
            Self::Untrusted(key) => {
                write!(
                    formatter,
                    "it is signed with {}, which is not a trusted key",
                    hexadecimal(key)
                )
            }
            Self::Wrong(key) => write!(
                formatter,
                "its signature is wrong: it is not what was signed with {}",
                hexadecimal(key)
            ),
        }
    }
}

impl std::error::Error for SignatureError {}

/// A module with a signature, in the place of the one that it may have had.
#[must_use]
pub fn sign(module: &[u8], key: &SigningKey) -> Vec<u8> {
    let module = split(module).map_or(module, |(module, ..)| module);
    let signature = key.sign(&message(module));
    let mut signed = module.to_vec();
    // Shorter than 128 bytes, so its length takes one.
    signed.extend_from_slice(&[0, CONTENT as u8, NAME.len() as u8]);
    signed.extend_from_slice(NAME);
    signed.push(VERSION);
    signed.extend_from_slice(key.verifying_key().as_bytes());
    signed.extend_from_slice(&signature.to_bytes());
    signed
}

/// The trusted key that has signed a module.
///
/// # Errors
/// None has.
pub fn verify(module: &[u8], trusted: &[[u8; 32]]) -> Result<[u8; 32], SignatureError> {
    let (module, key, signature) = split(module).ok_or(SignatureError::Unsigned)?;
    if !trusted.contains(&key) {
        return Err(SignatureError::Untrusted(key));
    }
    let is_right = VerifyingKey::from_bytes(&key)
        .and_then(|key| key.verify_strict(&message(module), &signature))
        .is_ok();
    if is_right {
        Ok(key)
    } else {
        Err(SignatureError::Wrong(key))
    }
}

fn message(module: &[u8]) -> Vec<u8> {
    [PREFIX, module].concat()
}

/// What was signed, with which key, and how.
fn split(module: &[u8]) -> Option<(&[u8], [u8; 32], Signature)> {
    let (module, section) = module.split_at(module.len().checked_sub(SECTION)?);
    let mut head = vec![0, CONTENT as u8, NAME.len() as u8];
    head.extend_from_slice(NAME);
    head.push(VERSION);
    let rest = section.strip_prefix(head.as_slice())?;
    let (key, signature) = rest.split_at(32);
    let signature = Signature::from_bytes(signature.try_into().ok()?);
    Some((module, key.try_into().ok()?, signature))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
