//! Signed modules: what was signed is believed, and nothing else.

use etl_orchestrator::signature::{SignatureError, SigningKey, sign, verify};

const MODULE: &[u8] = b"\0asm\x01\0\0\0\0\x05\x04name!";

fn key(seed: u8) -> (SigningKey, [u8; 32]) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = key.verifying_key().to_bytes();
    (key, public)
}

#[test]
fn only_what_a_trusted_key_signed_is_right() {
    let (ours, trusted) = key(1);
    let (theirs, other) = key(2);
    let signed = sign(MODULE, &ours);
    assert_eq!(verify(&signed, &[other, trusted]), Ok(trusted));
    assert_eq!(
        verify(&signed, &[other]),
        Err(SignatureError::Untrusted(trusted))
    );
    assert_eq!(
        verify(&signed, &[]),
        Err(SignatureError::Untrusted(trusted))
    );
    assert_eq!(verify(MODULE, &[trusted]), Err(SignatureError::Unsigned));
    assert_eq!(verify(b"", &[trusted]), Err(SignatureError::Unsigned));
    // Signed again it has the new signature and no other.
    let again = sign(&signed, &theirs);
    assert_eq!(again.len(), signed.len());
    assert_eq!(verify(&again, &[other]), Ok(other));
    assert_eq!(
        verify(&again, &[trusted]),
        Err(SignatureError::Untrusted(other))
    );
    // The name of a trusted key is not its signature.
    let mut forged = again.clone();
    let at = forged.len() - 96;
    forged[at..at + 32].copy_from_slice(&trusted);
    assert_eq!(
        verify(&forged, &[trusted]),
        Err(SignatureError::Wrong(trusted))
    );
}

#[test]
fn no_byte_can_be_changed_and_none_added() {
    let (ours, trusted) = key(1);
    let signed = sign(MODULE, &ours);
    for index in 0..signed.len() {
        for bit in 0..8 {
            let mut changed = signed.clone();
            changed[index] ^= 1 << bit;
            assert!(
                verify(&changed, &[trusted]).is_err(),
                "byte {index}, bit {bit}"
            );
        }
    }
    for added in [&b"\0"[..], b"\0\x02\x01x"] {
        assert_eq!(
            verify(&[&signed[..], added].concat(), &[trusted]),
            Err(SignatureError::Unsigned)
        );
        assert!(verify(&[added, &signed[..]].concat(), &[trusted]).is_err());
    }
    assert!(verify(&signed[1..], &[trusted]).is_err());
}
