//! Where an erasure goes on: `1|BEGAN|SERVER|SCOPE|PHASE|REST`.
//!
//! BEGAN is when it began by the store's clock and SERVER by the server's, in microseconds; SCOPE
//! binds it to tenant and scope; REST is the document id or number after which the phase goes on.

use memory_core::traits::{EraseScope, EraseToken};
use memory_core::{ContentHash, Error, Result, TenantId, Timestamp, UserId};

/// A place in an erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// When it began, for the receipt.
    pub(super) began_at: Timestamp,
    /// When it began by the server's time: what was made later stays.
    pub(super) server: i64,
    /// What is being removed.
    pub(super) phase: Phase,
}

/// What is being removed, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Memories, after the document of this id.
    Memories(Option<String>),
    /// Answers kept under idempotency keys, after the document of this id.
    Keys(Option<String>),
    /// Entries of the change log before the reset of this number; `None` before there is one.
    Log(Option<u64>),
    /// What else there is of a tenant.
    Tenant,
}

/// Binds a token to its tenant and scope.
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
            Phase::Memories(after) => ("m", after.clone()),
            Phase::Keys(after) => ("k", after.clone()),
            Phase::Log(reset) => ("l", reset.map(|number| number.to_string())),
            Phase::Tenant => ("t", None),
        };
        EraseToken(format!(
            "1|{}|{}|{}|{phase}|{}",
            self.began_at.as_micros(),
            self.server,
            scope_hash(tenant, scope),
            rest.unwrap_or_default()
        ))
    }

    /// # Errors
    /// `InvalidInput`: malformed, or of another tenant or scope.
    pub(super) fn read(token: &EraseToken, tenant: &TenantId, scope: &EraseScope) -> Result<Self> {
        let bad =
            || Error::invalid("the erasure's token is malformed or of another tenant or scope");
        let parts: Vec<_> = token.0.splitn(6, '|').collect();
        let ["1", began, server, hash, phase, rest] = parts[..] else { return Err(bad()) };
        if hash != scope_hash(tenant, scope) {
            return Err(bad());
        }
        let began = began.parse().map_err(|_| bad())?;
        let began_at = Timestamp::from_micros(began).map_err(|_| bad())?;
        // What comes back becomes part of a document's name.
        if rest.contains('/') || rest.len() > 1_500 {
            return Err(bad());
        }
        let some = (!rest.is_empty()).then(|| rest.to_owned());
        let number = |text: String| text.parse().map_err(|_| bad());
        let phase = match phase {
            "m" => Phase::Memories(some),
            "k" => Phase::Keys(some),
            "l" => Phase::Log(some.map(number).transpose()?),
            "t" if *scope == EraseScope::Tenant && some.is_none() => Phase::Tenant,
            _ => return Err(bad()),
        };
        Ok(Self { began_at, server: server.parse().map_err(|_| bad())?, phase })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_of_one_scope() {
        let tenant = TenantId::new("t").unwrap();
        let user = EraseScope::User(UserId::new("u").unwrap());
        let phases = [
            Phase::Memories(None),
            Phase::Memories(Some("a|b".to_owned())),
            Phase::Keys(Some("x".to_owned())),
            Phase::Log(None),
            Phase::Log(Some(7)),
        ];
        for phase in phases {
            let place = Place { began_at: Timestamp::MIN, server: 9, phase };
            let token = place.token(&tenant, &user);
            assert_eq!(Place::read(&token, &tenant, &user).unwrap(), place);
            assert!(Place::read(&token, &tenant, &EraseScope::Tenant).is_err());
            assert!(Place::read(&token, &TenantId::new("x").unwrap(), &user).is_err());
        }
        let place = Place { began_at: Timestamp::MIN, server: 9, phase: Phase::Tenant };
        let token = place.token(&tenant, &user);
        assert!(Place::read(&token, &tenant, &user).is_err(), "a user's erasure has no such phase");
        let token = place.token(&tenant, &EraseScope::Tenant);
        assert_eq!(Place::read(&token, &tenant, &EraseScope::Tenant).unwrap(), place);
        for bad in ["", "1|x", "2|0|0|x|m|", &format!("{}/..", token.0)] {
            assert!(Place::read(&EraseToken(bad.into()), &tenant, &EraseScope::Tenant).is_err());
        }
    }
}
