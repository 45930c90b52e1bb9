//! Where an erasure goes on: `1|BEGAN|POSITION|SCOPE|PHASE|REST`.
//!
//! BEGAN is when it began, in microseconds; POSITION that of the last change before; SCOPE binds it
//! to tenant and scope; REST is the member, in hexadecimal digits, after which the phase goes on.

use memory_core::traits::{EraseScope, EraseToken};
use memory_core::{ContentHash, Error, Result, TenantId, Timestamp, UserId};

/// A place in an erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) began_at: Timestamp,
    /// What was written later stays.
    pub(super) position: u64,
    pub(super) phase: Phase,
}

/// What is being removed, in this order; each after a member of its sorted set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Memories(Vec<u8>),
    /// Answers kept under idempotency keys.
    Answers(Vec<u8>),
    /// What else there is of a tenant.
    Rest,
}

/// Longest member of the sets: digits and an id.
const MEMBER: usize = 20 + memory_core::limits::ID_BYTES;

fn scope_hash(tenant: &TenantId, scope: &EraseScope) -> String {
    let (kind, user) = match scope {
        EraseScope::User(user) => ("user", Some(user)),
        EraseScope::Tenant => ("tenant", None),
    };
    let (tenant, user) = (tenant.as_str(), user.map_or("", UserId::as_str));
    ContentHash::of(&format!("{}|{tenant}|{kind}|{user}", tenant.len())).to_string()
}

impl Place {
    pub(super) fn token(&self, tenant: &TenantId, scope: &EraseScope) -> EraseToken {
        let (phase, rest) = match &self.phase {
            Phase::Memories(after) => ("m", &after[..]),
            Phase::Answers(after) => ("k", &after[..]),
            Phase::Rest => ("r", &[][..]),
        };
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        EraseToken(format!(
            "1|{}|{}|{}|{phase}|{rest}",
            self.began_at.as_micros(),
            self.position,
            scope_hash(tenant, scope),
        ))
    }

    /// # Errors
    /// `InvalidInput`: malformed, or of another tenant or scope.
    pub(super) fn read(token: &EraseToken, tenant: &TenantId, scope: &EraseScope) -> Result<Self> {
        let bad =
            || Error::invalid("the erasure's token is malformed or of another tenant or scope");
        let parts: Vec<_> = token.0.splitn(6, '|').collect();
        let ["1", began, position, hash, phase, rest] = parts[..] else { return Err(bad()) };
        if hash != scope_hash(tenant, scope) {
            return Err(bad());
        }
        let began = began.parse().map_err(|_| bad())?;
        let began_at = Timestamp::from_micros(began).map_err(|_| bad())?;
        if rest.len() > 2 * MEMBER || rest.len() % 2 != 0 || !rest.is_ascii() {
            return Err(bad());
        }
        let byte = |at: usize| u8::from_str_radix(&rest[at..at + 2], 16).map_err(|_| bad());
        let rest = (0..rest.len()).step_by(2).map(byte).collect::<Result<Vec<u8>>>()?;
        let phase = match phase {
            "m" => Phase::Memories(rest),
            "k" => Phase::Answers(rest),
            "r" if *scope == EraseScope::Tenant && rest.is_empty() => Phase::Rest,
            _ => return Err(bad()),
        };
        Ok(Self { began_at, position: position.parse().map_err(|_| bad())?, phase })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_only_where_it_was_issued() {
        let (a, b) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let user = |name| EraseScope::User(UserId::new(name).unwrap());
        for phase in [Phase::Memories("é|".into()), Phase::Answers(Vec::new()), Phase::Rest] {
            let place = Place { began_at: Timestamp::from_micros(-5).unwrap(), position: 7, phase };
            let token = place.token(&a, &EraseScope::Tenant);
            assert_eq!(Place::read(&token, &a, &EraseScope::Tenant).unwrap(), place);
            assert!(Place::read(&token, &b, &EraseScope::Tenant).is_err());
            assert!(Place::read(&token, &a, &user("a")).is_err());
        }
        for bad in ["", "1|2|3", "1|x|0||m|", "2|0|0|h|m|"] {
            assert!(Place::read(&EraseToken(bad.to_owned()), &a, &user("u")).is_err());
        }
    }
}
