//! Tokens: what they look like, and how they are kept so that whoever reads the file of them can use none.
//!
//! A token is `etl_<id>_<secret>`. The id finds the entry without trying every hash, and is no secret; the secret has 256 bits. Kept is
//! its argon2id hash in the usual text form.

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};

use super::store::AccessError;

/// A token that has just been made: shown once, and kept nowhere.
pub struct Token {
    pub(super) id: String,
    pub(super) secret: String,
}

impl Token {
    /// A new one, out of the system's randomness.
    pub(super) fn new() -> Result<Self, AccessError> {
        Ok(Self {
            id: hex(&random::<6>()?),
            secret: hex(&random::<32>()?),
        })
    }

    /// The text that its owner is given.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("etl_{}_{}", self.id, self.secret)
    }

    /// The id and the secret of a text that looks like a token.
    pub(super) fn parse(text: &str) -> Option<(&str, &str)> {
        let (id, secret) = text.strip_prefix("etl_")?.split_once('_')?;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (id.len() == 12 && secret.len() == 64 && plain(id) && plain(secret)).then_some((id, secret))
    }

    /// What is kept of it.
    pub(super) fn hash(&self) -> Result<String, AccessError> {
        let salt = SaltString::encode_b64(&random::<16>()?).map_err(AccessError::hashing)?;
        let hash = Argon2::default()
            .hash_password(self.secret.as_bytes(), &salt)
            .map_err(AccessError::hashing)?;
        Ok(hash.to_string())
    }
}

/// Whether this is the secret of that hash. It takes milliseconds and megabytes, as it is meant to.
pub(super) fn verify(secret: &str, hash: &str) -> bool {
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(secret.as_bytes(), &hash)
            .is_ok()
    })
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], AccessError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(AccessError::hashing)?;
    Ok(bytes)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0'));
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash() {
        let token = Token::new().expect("randomness");
        let text = token.reveal();
        let (id, secret) = Token::parse(&text).expect("a token");
        assert_eq!(id, token.id);
        let hash = token.hash().expect("a hash");
        assert!(hash.starts_with("$argon2id$"), "{hash}");
        assert!(!hash.contains(secret));
        assert!(verify(secret, &hash));
        let other = Token::new().expect("randomness");
        assert!(!verify(&other.secret, &hash) && !verify(secret, "nonsense"));
        for wrong in ["", "etl_", "etl_00_00", &text[1..], &text[..text.len() - 1]] {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
    }
}
