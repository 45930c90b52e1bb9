//! Names by which an author of the tenant goes.

use memory_core::{CallContext, Result};
use redis::{Cmd, cmd};

use super::ask::{In, ask, time_limit};
use super::fields::name_codes;
use super::filter::{self, Condition};
use super::reply;
use super::schema::NAMES;
use crate::fields as f;
use crate::store::RedisStore;
use crate::wire::Call;

/// Most names that are looked at.
const MOST_NAMES: usize = 100;
/// Memories of an author that are looked at for one that has not expired, before the engine is asked
/// for such a one.
const LOOKED_AT: u32 = 8;

/// Those of some names by which the author of a visible memory goes. One round trip, and another one
/// for names whose memories mostly have expired.
///
/// # Errors
/// `Unsupported`: no query engine. What the server met.
pub(super) async fn authors(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    names: &[String],
) -> Result<Vec<String>> {
    store.engine.used()?;
    let names = &names[..names.len().min(MOST_NAMES)];
    let mut asked: Vec<usize> =
        (0..names.len()).filter(|at| !name_codes(&names[*at]).is_empty()).collect();
    let mut known = vec![false; names.len()];
    let now = store.clock.now();
    for last in [false, true] {
        if asked.is_empty() {
            break;
        }
        let limit_ms = time_limit(store, context);
        let make = |index: &str, _: &str| {
            asked
                .iter()
                .map(|at| command(index, &names[*at], now.as_micros(), last, limit_ms))
                .collect()
        };
        let answers = ask(store, call, context, In::Words, make).await?.answers;
        let mut unsure = Vec::new();
        for (at, answer) in asked.iter().zip(answers) {
            let rows = reply::rows(answer)?.rows;
            let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
            let visible = rows.iter().any(|row| {
                let until = row.field(f::VISIBLE).and_then(f::from_sortable);
                until.is_some_and(|until| now.as_micros() < until)
            });
            known[*at] = visible;
            if !visible && count >= LOOKED_AT && !last {
                unsure.push(*at);
            }
        }
        asked = unsure;
    }
    Ok(names.iter().zip(known).filter(|(_, known)| *known).map(|(name, _)| name.clone()).collect())
}

/// Asks for a few memories of authors that go by a name; the engine stops at so many.
fn command(index: &str, name: &str, now: i64, visible: bool, limit_ms: u64) -> Cmd {
    let codes = name_codes(name);
    let any: Vec<String> = (0..codes.len()).map(|at| format!("@{NAMES}:{{$p{at}}}")).collect();
    let mut text = format!("({})", any.join("|"));
    if visible && let Condition::Query(visible) = filter::visible(now) {
        text = format!("{text} {visible}");
    }
    let mut search = cmd("FT.AGGREGATE");
    search.arg(index).arg(text);
    search.arg("LOAD").arg(3).arg(format!("@{}", f::VISIBLE)).arg("AS").arg(f::VISIBLE);
    search.arg("LIMIT").arg(0).arg(LOOKED_AT).arg("TIMEOUT").arg(limit_ms);
    search.arg("PARAMS").arg(codes.len() * 2);
    for (at, code) in codes.iter().enumerate() {
        search.arg(format!("p{at}")).arg(code);
    }
    search.arg("DIALECT").arg(2);
    search
}
