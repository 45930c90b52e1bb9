//! Leases: never two holders at once by the store's clock, tokens that grow, and one grant a call.

use std::collections::BTreeMap;
use std::time::Duration;

use memory_core::Timestamp;

use super::super::history::{Ask, Call, Deed, Log, Reply};
use super::Verdict;
use crate::conformance::start;

/// A time in which a lease was held.
#[derive(Clone, Copy, Debug)]
struct Holding {
    name: &'static str,
    token: u64,
    call: Option<usize>,
    from: u64,
    until: Duration,
}

/// A time of the store's clock on the run's own time.
fn on_run(time: Timestamp) -> Duration {
    let micros = time.as_micros().saturating_sub(start().as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

pub(super) fn check(log: &Log) -> Verdict {
    let holdings = holdings(log)?;
    for (number, call) in log.calls.iter().enumerate() {
        let Some((ended, reply)) = &call.ended else { continue };
        let deeds = || log.deeds.iter().filter(move |done| done.call == Some(number));
        let once = deeds()
            .filter(|done| matches!(done.deed, Deed::Granted { .. } | Deed::SpacesSet { .. }));
        if once.count() > 1 {
            return Err(format!("call {number} took effect twice"));
        }
        let justified = match (&call.ask, reply) {
            (Ask::Acquire { name }, Reply::Lease(Some((token, until)))) => deeds()
                .any(|done| done.deed == Deed::Granted { name, token: *token, until: *until }),
            // Somebody else held it at some time of the call.
            (Ask::Acquire { name }, Reply::Lease(None)) => holdings.iter().any(|held| {
                held.name == *name
                    && held.call != Some(number)
                    && held.from < ended.order
                    && held.until > call.began.at
            }),
            (Ask::Renew { name, .. }, Reply::Lease(Some((token, until)))) => deeds()
                .any(|done| done.deed == Deed::Renewed { name, token: *token, until: *until }),
            (Ask::Renew { token, .. }, Reply::Lease(None)) => {
                holdings.iter().all(|held| held.token != *token || held.until <= ended.at)
            }
            (Ask::Release { .. } | Ask::SetFence { .. } | Ask::Acknowledge { .. }, Reply::Done) => {
                deeds().next().is_some()
            }
            (Ask::SetSpaces { version }, Reply::Version(now)) => {
                *now == version + 1
                    && deeds().any(|done| done.deed == Deed::SpacesSet { version: *now })
            }
            (Ask::Spaces, Reply::Version(now)) => {
                version(log, call.began.order) <= *now && *now <= version(log, ended.order)
            }
            (Ask::Position, Reply::Position(position)) => position_fits(log, call, *position),
            _ => true,
        };
        if !justified {
            return Err(format!("call {number} was told what was never so: {reply:?}"));
        }
    }
    Ok(())
}

/// The version of the spaces at a place in the order.
fn version(log: &Log, order: u64) -> u64 {
    let set = log.deeds.iter().filter_map(|done| match done.deed {
        Deed::SpacesSet { version } if done.order < order => Some(version),
        _ => None,
    });
    // Setting them up made the first.
    set.max().unwrap_or(1)
}

/// A consumer stands where it was acknowledged last, or further where an answer was lost.
fn position_fits(log: &Log, call: &Call, position: Option<u64>) -> bool {
    let Some(position) = position else { return false };
    let own = |one: &&Call| {
        (one.worker, one.room) == (call.worker, call.room) && one.began.order < call.began.order
    };
    let asked = |one: &Call| match one.ask {
        Ask::Acknowledge { position } => Some(position),
        _ => None,
    };
    let sent = log.calls.iter().filter(own).filter_map(asked).max();
    let known = log
        .calls
        .iter()
        .filter(own)
        .filter(|one| one.ended.as_ref().is_some_and(|(_, reply)| *reply == Reply::Done));
    let known = known.filter_map(asked).max();
    known.unwrap_or(0) <= position && position <= sent.unwrap_or(0)
}

/// Who held which lease when; refuses two at once and tokens that do not grow.
fn holdings(log: &Log) -> Result<Vec<Holding>, String> {
    let mut holdings: Vec<Holding> = Vec::new();
    let mut current: BTreeMap<&str, usize> = BTreeMap::new();
    for done in &log.deeds {
        match done.deed {
            Deed::Granted { name, token, until } => {
                if let Some(place) = current.get(name) {
                    let held = holdings[*place];
                    if held.until > done.at {
                        return Err(format!("{name} was granted while token {} held", held.token));
                    }
                    if token <= held.token {
                        return Err(format!("{name}: token {token} does not grow"));
                    }
                }
                current.insert(name, holdings.len());
                let (call, from) = (done.call, done.order);
                holdings.push(Holding { name, token, call, from, until: on_run(until) });
            }
            Deed::Renewed { name, token, until } => {
                let held = current.get(name).map(|place| &mut holdings[*place]);
                match held.filter(|held| held.token == token && held.until > done.at) {
                    Some(held) => held.until = on_run(until),
                    None => return Err(format!("{name} was renewed by who did not hold it")),
                }
            }
            Deed::Released { name, token } => {
                if let Some(place) = current.get(name) {
                    let held = &mut holdings[*place];
                    if held.token == token {
                        held.until = held.until.min(done.at);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(holdings)
}
