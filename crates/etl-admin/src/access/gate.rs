//! Whether to believe a caller.
//!
//! A token's hash is slow to check on purpose, so one that was found right is remembered, by a digest under a key of this process, and
//! compared in constant time. Whoever shows tokens that are wrong is locked out for a while, by address: nothing is looked up for them
//! then, so guessing costs the process nothing. Wrong secrets for a token that exists are counted for that token alone, and ids that do not
//! exist together, so that a stranger's guesses lock nobody else behind the same address out; and what was remembered always counts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;

use super::store::{Entry, Proof, State, Store};
use super::token::{self, Token};
use super::{AccessError, Identity};
use crate::reception::Peer;

/// So many wrong tokens from one address in this time lock it out for as long.
const FAILURES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// Guessers whose failures are remembered; beyond that the oldest are forgotten.
const ADDRESSES: usize = 10_000;
/// Hashes that are checked at once, each of 19 MiB.
const CHECKS: usize = 2;

/// Why a caller was not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nothing was shown.
    Nobody,
    /// What was shown is not known.
    Unknown,
    /// It was, and is of no use any more: the name of its entry, and `expired` or `revoked`.
    Over(String, &'static str),
    /// Too many wrong tokens came from there; how long it lasts.
    LockedOut(Duration),
    /// The file of those who may come in cannot be read.
    Unreadable,
}

/// An address, and the token that it tries: an id that exists, or none.
type Guesser = (IpAddr, Option<String>);

pub(crate) struct Gate {
    store: Store,
    known: Mutex<Known>,
    failures: Mutex<HashMap<Guesser, (u32, Instant)>>,
    checks: Semaphore,
    /// Makes what is remembered of tokens worthless outside this process.
    key: [u8; 32],
}

#[derive(Default)]
struct Known {
    state: State,
    entries: Arc<Vec<Entry>>,
    is_readable: bool,
    /// By id, the digest of the secret that was found right, with the hash that said so.
    right: HashMap<String, [u8; 32]>,
}

impl Gate {
    pub(crate) fn new(store: Store) -> Result<Self, AccessError> {
        // In this order: a change in between is noticed later, and not missed.
        let state = store.state();
        let entries = store.entries()?;
        Ok(Self {
            known: Mutex::new(Known {
                state,
                entries: Arc::new(entries),
                is_readable: true,
                right: HashMap::new(),
            }),
            store,
            failures: Mutex::default(),
            checks: Semaphore::new(CHECKS),
            key: token::random()?,
        })
    }

    /// Whether there is anybody who could come in.
    pub(crate) fn is_empty(&self) -> bool {
        !self
            .entries()
            .is_some_and(|entries| entries.iter().any(|entry| entry.state() == "valid"))
    }

    /// Who is it?
    pub(crate) async fn identify(
        &self,
        authorization: Option<&str>,
        peer: &Peer,
    ) -> Result<Identity, Doubt> {
        let entries = self.entries().ok_or(Doubt::Unreadable)?;
        let Some(authorization) = authorization else {
            return self.by_certificate(&entries, peer);
        };
        let address = network(peer.address.ip());
        let shown = bearer(authorization).and_then(Token::parse);
        let entry = shown.and_then(|(id, _)| {
            let mut entries = entries.iter();
            entries.find(|entry| entry.id == id && matches!(entry.proof, Proof::Token(_)))
        });
        let guesser = (address, entry.map(|entry| entry.id.clone()));
        let right = match (shown, entry) {
            (Some((_, secret)), Some(entry)) => self.is_right(secret, entry, &guesser).await?,
            _ => {
                self.look_out(&guesser)?;
                false
            }
        };
        match entry {
            Some(entry) if right => believed(entry),
            _ => {
                self.failed(guesser);
                Err(Doubt::Unknown)
            }
        }
    }

    /// Whether somebody who was believed would be believed now: not revoked, not expired, and what they may do is still the same.
    pub(crate) fn still_believes(&self, identity: &Identity) -> bool {
        let entries = self.entries();
        let mut entries = entries.iter().flat_map(|entries| entries.iter());
        entries.any(|entry| believed(entry).as_ref() == Ok(identity))
    }

    fn by_certificate(&self, entries: &[Entry], peer: &Peer) -> Result<Identity, Doubt> {
        let shown = peer.certificate.ok_or(Doubt::Nobody)?;
        let shown = token::hex(&shown);
        let mut entries = entries.iter();
        let entry = entries
            .rfind(|entry| matches!(&entry.proof, Proof::Certificate(known) if *known == shown));
        believed(entry.ok_or(Doubt::Unknown)?)
    }

    /// Whether a secret is that of an entry.
    async fn is_right(
        &self,
        secret: &str,
        entry: &Entry,
        guesser: &Guesser,
    ) -> Result<bool, Doubt> {
        let Proof::Token(hash) = &entry.proof else {
            return Ok(false);
        };
        let digest: [u8; 32] = Sha256::new()
            .chain_update(self.key)
            .chain_update(hash)
            .chain_update(secret)
            .finalize()
            .into();
        let remembered = self.known().right.get(&entry.id).copied();
        if remembered.is_some_and(|right| bool::from(right.ct_eq(&digest))) {
            return Ok(true);
        }
        self.look_out(guesser)?;
        let Ok(_turn) = self.checks.acquire().await else {
            return Ok(false);
        };
        // Whoever waited for a turn may have been locked out meanwhile.
        self.look_out(guesser)?;
        let (secret, hash) = (secret.to_owned(), hash.clone());
        let checked = tokio::task::spawn_blocking(move || token::verify(&secret, &hash)).await;
        let right = checked.unwrap_or(false);
        if right {
            self.known().right.insert(entry.id.clone(), digest);
        }
        Ok(right)
    }

    /// The entries as they are now, `None` where they cannot be read.
    fn entries(&self) -> Option<Arc<Vec<Entry>>> {
        let state = self.store.state();
        let mut known = self.known();
        if known.state != state || !known.is_readable {
            known.state = state;
            match self.store.entries() {
                Ok(entries) => {
                    // Who is still there and was right need not be asked again, which is what lets them in while others are locked out.
                    known
                        .right
                        .retain(|id, _| entries.iter().any(|entry| entry.id == *id));
                    known.entries = Arc::new(entries);
                    known.is_readable = true;
                }
                Err(error) => {
                    // Who was let in by what the file said before must not be let in by what it says now.
                    tracing::error!(%error, "nobody is let in until the file can be read");
                    known.is_readable = false;
                }
            }
        }
        known.is_readable.then(|| known.entries.clone())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<Guesser, (u32, Instant)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_out(&self, guesser: &Guesser) -> Result<(), Doubt> {
        let mut failures = self.failures();
        let Some((count, since)) = failures.get(guesser).copied() else {
            return Ok(());
        };
        let left = WINDOW.saturating_sub(since.elapsed());
        if left.is_zero() {
            failures.remove(guesser);
        } else if count >= FAILURES {
            return Err(Doubt::LockedOut(left));
        }
        Ok(())
    }

    fn failed(&self, guesser: Guesser) {
        let mut failures = self.failures();
        if failures.len() >= ADDRESSES && !failures.contains_key(&guesser) {
            failures.retain(|_, (_, since)| since.elapsed() < WINDOW);
            if failures.len() >= ADDRESSES
                && let Some(oldest) = failures
                    .iter()
                    .min_by_key(|(_, (_, since))| *since)
                    .map(|(guesser, _)| guesser.clone())
            {
                failures.remove(&oldest);
            }
        }
        let now = Instant::now();
        let address = guesser.0;
        let (count, since) = failures.entry(guesser).or_insert((0, now));
        *count += 1;
        if *count == FAILURES {
            // The lock lasts from the last failure, not from the first.
            *since = now;
            tracing::warn!(%address, "locked out: too many wrong tokens");
        }
    }
}

fn believed(entry: &Entry) -> Result<Identity, Doubt> {
    match entry.state() {
        "valid" => Ok(Identity {
            credential: entry.id.clone(),
            name: entry.name.clone(),
            role: entry.role,
            scope: entry.scope.clone(),
        }),
        state => Err(Doubt::Over(entry.name.clone(), state)),
    }
}

/// What follows `Bearer`.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

/// The address; of IPv6 the network, since one host has as many addresses there as it likes.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address => address,
    }
}
