//! What is known of a tenant: its spaces, and that it is listed and indexed.
//!
//! It is remembered, and every script that needs it says which version it was sent under: what has
//! changed meanwhile costs one more round trip and never a wrong write.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use memory_core::traits::{FencingToken, TenantSpaces};
use memory_core::{CallContext, Error, Result, TenantId};
use redis::Value;

use crate::error::corrupt;
use crate::store::RedisStore;
use crate::wire::{Call, Effect};

/// What this process remembers of a tenant. The scripts that write compare `spaces.version` with
/// what is stored and answer with the newer state where it differs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TenantState {
    /// Its spaces.
    pub(crate) spaces: TenantSpaces,
    /// Its entry in the directory; `None` where it is not listed.
    pub(crate) listed: Option<String>,
    /// What its indexes of the query engine are made as; `None` where there are none.
    pub(crate) indexed: Option<String>,
}

impl TenantState {
    /// Reads `dir`, `sv`, `sp`, `ix`: what follows the status in the answer of `behind` in
    /// `lua/guard.lua`, and what `HMGET` says of the fields. Missing ones are nil or empty.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn from_answer(values: &[Value]) -> Result<Self> {
        let bad = || corrupt("what is stored of the tenant is not what was written");
        let [dir, sv, sp, ix] = values else { return Err(bad()) };
        let text = |value: &Value| match value {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) if bytes.is_empty() => Ok(None),
            Value::BulkString(bytes) => {
                String::from_utf8(bytes.clone()).map(Some).map_err(|_| bad())
            }
            _ => Err(bad()),
        };
        let version = match text(sv)? {
            None => 0,
            Some(digits) => digits.parse().map_err(|_| bad())?,
        };
        let mut spaces: TenantSpaces = match text(sp)? {
            None => TenantSpaces::default(),
            Some(json) => serde_json::from_str(&json).map_err(|_| bad())?,
        };
        spaces.version = version;
        Ok(Self { spaces, listed: text(dir)?, indexed: text(ix)? })
    }
}

/// A fencing token, or none, as `fenced` of `lua/guard.lua` compares it and as `fence` is stored.
pub(crate) fn fence_text(token: Option<FencingToken>) -> String {
    token.map_or_else(String::new, |token| format!("{:020}", token.0))
}

/// When a request was begun, among those of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Begun(u64);

/// The states of the tenants seen last.
#[derive(Debug)]
pub(crate) struct Tenants {
    states: Mutex<LruCache<TenantId, (Begun, Arc<TenantState>)>>,
    begun: AtomicU64,
}

impl Tenants {
    pub(crate) fn new(most: u32) -> Self {
        let most =
            NonZeroUsize::new(usize::try_from(most).unwrap_or(1)).unwrap_or(NonZeroUsize::MIN);
        Self { states: Mutex::new(LruCache::new(most)), begun: AtomicU64::new(0) }
    }

    pub(crate) fn get(&self, tenant: &TenantId) -> Option<Arc<TenantState>> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(tenant).map(|(_, state)| state.clone())
    }

    /// Call it before the request whose answer is given to [`Tenants::put`] is sent.
    pub(crate) fn begin(&self) -> Begun {
        Begun(self.begun.fetch_add(1, Ordering::Relaxed))
    }

    /// Remembers an answer, unless a newer one is known; returns what is known now.
    ///
    /// Of one life of a tenant the greater version is the newer; otherwise the answer of the request
    /// that was begun later. Two that were under way together cannot be told apart, and whichever is
    /// kept, the next script says where it is behind.
    pub(crate) fn put(
        &self,
        tenant: &TenantId,
        begun: Begun,
        state: TenantState,
    ) -> Arc<TenantState> {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, known)) = states.get(tenant) {
            let one_life = known.listed.is_some() && known.listed == state.listed;
            let older = if one_life && known.spaces.version != state.spaces.version {
                state.spaces.version < known.spaces.version
            } else {
                begun < *at
            };
            if older {
                return known.clone();
            }
        }
        let state = Arc::new(state);
        states.put(tenant.clone(), (begun, state.clone()));
        state
    }

    /// Forgets what is known: the next call asks.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).pop(tenant);
    }
}

/// What is known of the context's tenant; asked for where nothing is.
///
/// # Errors
/// What the server met; `Corrupt`.
pub(crate) async fn known(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
) -> Result<Arc<TenantState>> {
    match store.tenants.get(&context.tenant) {
        Some(state) => Ok(state),
        None => load(store, call, context).await,
    }
}

/// Asks for the state of the context's tenant and remembers it: one round trip.
///
/// # Errors
/// What the server met; `Corrupt`.
pub(crate) async fn load(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
) -> Result<Arc<TenantState>> {
    let begun = store.tenants.begin();
    let key = store.keys.tenant(&context.tenant).state();
    let mut command = redis::cmd("HMGET");
    command.arg(&key).arg(&["dir", "sv", "sp", "ix"]);
    let answer = store.wire.at(call, &key, &command, Effect::Reads).await?;
    let Value::Array(values) = answer else {
        return Err(corrupt("the server's answer to HMGET is no list"));
    };
    Ok(store.tenants.put(&context.tenant, begun, TenantState::from_answer(&values)?))
}

/// Reads a script's refusal for a state that this process did not know: what `behind` answers.
/// `begun` is from before the script was sent. Returns what is known now.
///
/// # Errors
/// `Corrupt`.
pub(crate) fn refreshed(
    store: &RedisStore,
    context: &CallContext,
    begun: Begun,
    rest: &[Value],
) -> Result<Arc<TenantState>> {
    Ok(store.tenants.put(&context.tenant, begun, TenantState::from_answer(rest)?))
}

/// The tenant's state kept changing under a write.
pub(crate) fn unsettled() -> Error {
    Error::new(
        memory_core::ErrorKind::Unavailable,
        "the tenant's spaces or indexes keep changing; nothing was written: send it again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn state(token: &str, version: u64) -> TenantState {
        TenantState {
            spaces: TenantSpaces { version, ..TenantSpaces::default() },
            listed: Some(token.to_owned()),
            indexed: None,
        }
    }

    #[test]
    fn answers_are_read_and_checked() {
        let none = TenantState::from_answer(&[Value::Nil, Value::Nil, Value::Nil, Value::Nil]);
        assert_eq!(none.unwrap(), TenantState::default());
        let json = r#"{"active":{"model":"m","revision":"1","dimensions":3,"metric":"cosine"},
            "next":null,"version":4}"#;
        let read = TenantState::from_answer(&[bulk("token"), bulk("4"), bulk(json), bulk("mark")])
            .unwrap();
        assert_eq!((read.spaces.version, read.listed.as_deref()), (4, Some("token")));
        assert_eq!(read.spaces.active.unwrap().dimensions(), 3);
        assert_eq!(read.indexed.as_deref(), Some("mark"));
        for bad in [
            vec![],
            vec![bulk(""), bulk("x"), bulk(""), bulk("")],
            vec![bulk(""), bulk("1"), bulk("{"), bulk("")],
            vec![Value::Int(1), bulk("1"), bulk(""), bulk("")],
            vec![Value::BulkString(vec![0xff]), bulk("1"), bulk(""), bulk("")],
        ] {
            let error = TenantState::from_answer(&bad).unwrap_err();
            assert_eq!(error.kind(), memory_core::ErrorKind::Corrupt);
        }
    }

    #[test]
    fn an_older_answer_never_replaces_a_newer_one() {
        let tenants = Tenants::new(2);
        let tenant = TenantId::new("t").unwrap();
        let (first, second, third) = (tenants.begin(), tenants.begin(), tenants.begin());
        tenants.put(&tenant, second, state("a", 2));
        // Of one life the version decides, whichever was asked first.
        assert_eq!(tenants.put(&tenant, third, state("a", 1)).spaces.version, 2);
        assert_eq!(tenants.put(&tenant, first, state("a", 3)).spaces.version, 3);
        // Of another life, the later request.
        assert_eq!(tenants.put(&tenant, third, state("b", 1)).spaces.version, 1);
        assert_eq!(tenants.put(&tenant, second, state("a", 9)).spaces.version, 1);
        assert_eq!(tenants.get(&tenant).unwrap().listed.as_deref(), Some("b"));
        tenants.forget(&tenant);
        assert_eq!(tenants.get(&tenant), None);
        assert_eq!(*tenants.put(&tenant, first, state("a", 9)), state("a", 9));
    }

    #[test]
    fn fences_compare_as_texts() {
        assert_eq!(fence_text(None), "");
        let texts = [0, 9, 10, u64::MAX].map(|token| fence_text(Some(FencingToken(token))));
        assert!(texts.is_sorted());
        assert!(texts.iter().all(|text| text.len() == 20));
    }
}
