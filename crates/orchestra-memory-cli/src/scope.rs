//! The filter that the options for "which memories" make together.

use orchestra_memory::memory_core::{
    AgentId, CompareOp, Field, Filter, Kind, Scalar, SessionId, Timestamp, UserId,
};

use crate::args::Scope;
use crate::failure::Result;
use crate::parse;

/// The filter of some options: all of them must hold.
///
/// Ids are checked as ids, so that one that no memory can have is an error and not an empty answer.
pub(crate) fn filter(scope: &Scope, now: Timestamp) -> Result<Filter> {
    let mut filter = match &scope.filter {
        Some(text) => Filter::from_json(&parse::json("the filter", text)?)?,
        None => Filter::All,
    };
    let mut require = |field, text: &str| {
        let all = std::mem::take(&mut filter);
        filter = all.and(Filter::eq(field, text));
    };
    if let Some(user) = &scope.user {
        require(Field::UserId, UserId::new(user)?.as_str());
    }
    if let Some(agent) = &scope.agent {
        require(Field::AgentId, AgentId::new(agent)?.as_str());
    }
    if let Some(session) = &scope.session {
        require(Field::SessionId, SessionId::new(session)?.as_str());
    }
    if let Some(kind) = &scope.kind {
        require(Field::Kind, kind.parse::<Kind>()?.name());
    }
    for (text, op) in [(&scope.since, CompareOp::Gte), (&scope.until, CompareOp::Lt)] {
        if let Some(text) = text {
            let time = Scalar::Time(parse::time(text, now)?);
            filter = filter.and(Filter::Compare(Field::OccurredAt, op, time));
        }
    }
    filter.validate()?;
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_option_narrows() {
        let now = Timestamp::parse("2025-03-08T00:00:00Z").unwrap();
        let scope = Scope {
            user: Some("ada".to_owned()),
            agent: Some("pip".to_owned()),
            session: Some("s".to_owned()),
            kind: Some("fact".to_owned()),
            filter: Some(r#"{"field": "metadata.n", "op": "gt", "value": 1}"#.to_owned()),
            since: Some("-7d".to_owned()),
            until: Some("now".to_owned()),
        };
        let filter = filter(&scope, now).unwrap().to_json();
        let parts = filter["and"].as_array().unwrap();
        assert_eq!(parts.len(), 7);
        assert!(parts.contains(&json!({"field": "user_id", "op": "eq", "value": "ada"})));
        assert!(parts.contains(
            &json!({"field": "occurred_at", "op": "gte", "value": "2025-03-01T00:00:00Z"})
        ));
        assert!(parts.contains(
            &json!({"field": "occurred_at", "op": "lt", "value": "2025-03-08T00:00:00Z"})
        ));
    }

    #[test]
    fn nothing_narrows_nothing_and_nonsense_is_refused() {
        let now = Timestamp::MIN;
        assert_eq!(filter(&Scope::default(), now).unwrap(), Filter::All);
        let bad = [
            Scope { user: Some(String::new()), ..Scope::default() },
            Scope { agent: Some("a\nb".to_owned()), ..Scope::default() },
            Scope { session: Some("x".repeat(481)), ..Scope::default() },
            Scope { kind: Some(String::new()), ..Scope::default() },
            Scope { filter: Some("{".to_owned()), ..Scope::default() },
            Scope { filter: Some("[]".to_owned()), ..Scope::default() },
            Scope { since: Some("soon".to_owned()), ..Scope::default() },
        ];
        for scope in bad {
            assert_eq!(filter(&scope, now).unwrap_err().exit_code(), 2, "{scope:?}");
        }
    }
}
