//! The provider over the library: one entry for each set of scopes, and rest after a failure.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use memory_core::traits::{AccessToken, CredentialProvider};
use memory_core::{Clock, Error, Result, Timestamp};

use crate::failure::Failure;
use crate::live::{Live, Source};
use crate::{BACKEND, CLOUD_PLATFORM_SCOPE};

/// Sets of scopes that are kept; each has a thread. A process asks for one or two.
const MOST_SETS: usize = 8;
/// Most scopes of one set, and most bytes of one: those of Google have fewer than 100.
const MOST_SCOPES: usize = 32;
const SCOPE_BYTES: usize = 256;
/// Most bytes of a token: what servers take in a header.
const TOKEN_BYTES: usize = 16 * 1024;
/// How long a failure is repeated without asking again. One that may pass: a second, so that many
/// callers who try again do not add to what ails the issuer.
const SHORT_REST: Duration = Duration::from_secs(1);
/// One that does not pass by itself: ten, so that a right that was granted is found soon.
const LONG_REST: Duration = Duration::from_secs(10);
/// How far the time of day may move against the steady one until tokens are fetched anew. The
/// library counts by the steady one, which stands still while a machine sleeps.
const MOST_DRIFT: u64 = 60_000_000;

/// Tokens from one source.
pub(crate) struct GoogleCredentials {
    source: Source,
    place: String,
    bound: Duration,
    clock: Arc<dyn Clock>,
    slots: Mutex<Vec<Slot>>,
}

/// What is known for one set of scopes.
struct Slot {
    scopes: Vec<String>,
    state: State,
}

#[derive(Clone)]
enum State {
    Live(Arc<Started>),
    Failed { failure: Failure, until: Duration },
}

/// Credentials at work, and both times at their start.
struct Started {
    live: Live,
    wall: Timestamp,
    steady: Duration,
}

impl GoogleCredentials {
    pub(crate) fn new(
        source: Source,
        place: String,
        bound: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { source, place, bound, clock, slots: Mutex::new(Vec::new()) }
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credentials at work for a set of scopes, started if there are none.
    fn started(&self, scopes: &[String]) -> Result<Arc<Started>> {
        let mut slots = self.slots();
        let now = self.clock.monotonic();
        // The last is the one that was used last.
        let slot = slots.iter().position(|slot| slot.scopes == scopes).map(|at| slots.remove(at));
        let state = match slot.map(|slot| slot.state) {
            Some(State::Live(started)) if !self.drifted(&started) => State::Live(started),
            Some(State::Failed { failure, until }) if now < until => {
                State::Failed { failure, until }
            }
            _ => match Live::start(&self.source, scopes) {
                Ok(live) => {
                    let wall = self.clock.now();
                    State::Live(Arc::new(Started { live, wall, steady: now }))
                }
                Err(failure) => {
                    let until = now.saturating_add(rest(&failure));
                    State::Failed { failure, until }
                }
            },
        };
        if slots.len() >= MOST_SETS {
            slots.remove(0);
        }
        slots.push(Slot { scopes: scopes.to_vec(), state: state.clone() });
        match state {
            State::Live(started) => Ok(started),
            State::Failed { failure, until } => {
                Err(failure.error(&self.place, until.saturating_sub(now)))
            }
        }
    }

    /// Whether the machine slept, or its time of day was set.
    fn drifted(&self, started: &Started) -> bool {
        let wall = self.clock.now().as_micros().saturating_sub(started.wall.as_micros());
        let steady = self.clock.monotonic().saturating_sub(started.steady);
        let steady = i64::try_from(steady.as_micros()).unwrap_or(i64::MAX);
        wall.abs_diff(steady) > MOST_DRIFT
    }

    /// Drops credentials that failed, unless others took their place, and lets them rest.
    fn fail(&self, scopes: &[String], failed: &Arc<Started>, failure: Failure) -> Error {
        let wait = rest(&failure);
        let error = failure.error(&self.place, wait);
        let until = self.clock.monotonic().saturating_add(wait);
        for slot in self.slots().iter_mut().filter(|slot| slot.scopes == scopes) {
            if matches!(&slot.state, State::Live(started) if Arc::ptr_eq(started, failed)) {
                slot.state = State::Failed { failure, until };
                break;
            }
        }
        error
    }

    /// The token as it may be handed on.
    fn checked(&self, token: String) -> Result<AccessToken, Failure> {
        let sendable = (1..=TOKEN_BYTES).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        if !sendable {
            return Err(Failure::away("what the issuer gave is not a token", false));
        }
        let expires_at = match &self.source {
            Source::Document(document) if document.is_self_signed() => expiry(&token),
            _ => None,
        };
        Ok(AccessToken::new(token, expires_at))
    }
}

#[async_trait]
impl CredentialProvider for GoogleCredentials {
    async fn token(&self, scopes: &[String]) -> Result<AccessToken> {
        let scopes = ordered(scopes)?;
        let started = self.started(&scopes)?;
        let token = started.live.token(self.bound).await;
        token
            .and_then(|token| self.checked(token.token))
            .map_err(|failure| self.fail(&scopes, &started, failure))
    }
}

impl fmt::Debug for GoogleCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoogleCredentials")
            .field("place", &self.place)
            .field("timeout", &self.bound)
            .finish_non_exhaustive()
    }
}

fn rest(failure: &Failure) -> Duration {
    if failure.retryable { SHORT_REST } else { LONG_REST }
}

/// A set of scopes in one order, so that the same set is the same entry.
fn ordered(scopes: &[String]) -> Result<Vec<String>> {
    let plain = |scope: &String| {
        (1..=SCOPE_BYTES).contains(&scope.len())
            && scope.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
    };
    if scopes.len() > MOST_SCOPES || !scopes.iter().all(plain) {
        return Err(Error::invalid(format!(
            "scopes are at most {MOST_SCOPES} texts of 1 to {SCOPE_BYTES} visible ASCII characters \
             without commas"
        ))
        .with_backend(BACKEND)
        .with_operation("token"));
    }
    let set: BTreeSet<&String> = scopes.iter().collect();
    if set.is_empty() {
        return Ok(vec![CLOUD_PLATFORM_SCOPE.to_owned()]);
    }
    Ok(set.into_iter().cloned().collect())
}

/// When a token that was signed here ends, by its own words.
fn expiry(token: &str) -> Option<Timestamp> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Timestamp::from_micros(claims.get("exp")?.as_i64()?.checked_mul(1_000_000)?).ok()
}
