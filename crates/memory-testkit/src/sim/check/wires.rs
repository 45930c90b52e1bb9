//! What was sent: nothing that must not be sent again, nothing too early, too often or after the
//! end.

use std::collections::BTreeMap;

use memory_core::Outcome;

use super::super::history::{Answer, Ask, Log, Wire};
use super::super::stack::Promises;
use super::Verdict;

/// Whether nobody knows what became of a request.
fn unknown(wire: &Wire) -> bool {
    match &wire.answer {
        None => true,
        Some((_, _, Answer::Ok)) => false,
        Some((_, _, Answer::Failed { outcome, .. })) => *outcome == Outcome::Unknown,
    }
}

pub(super) fn check(log: &Log, promises: &Promises) -> Verdict {
    let mut by_call: BTreeMap<usize, Vec<&Wire>> = BTreeMap::new();
    let mut by_process: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for (number, wire) in log.wires.iter().enumerate() {
        let Some(call) = wire.call else {
            return Err(format!("request {number} belongs to no call"));
        };
        let closed = log.closed.get(&wire.process);
        if promises.gate && closed.is_some_and(|closed| closed.order < wire.order) {
            return Err(format!("request {number} was sent by a stack that had closed"));
        }
        let earlier = by_call.entry(call).or_default();
        let (retries, successes) = by_process.entry(wire.process).or_default();
        *retries += u64::from(!earlier.is_empty());
        *successes += u64::from(matches!(wire.answer, Some((_, _, Answer::Ok))));
        earlier.push(wire);
    }
    for (call, wires) in &by_call {
        let sent = u32::try_from(wires.len()).unwrap_or(u32::MAX);
        if promises.attempts.is_some_and(|most| sent > most) {
            return Err(format!("call {call} was sent {sent} times"));
        }
        let ask = log.calls.get(*call).map(|call| &call.ask);
        let mut lost = false;
        for pair in wires.windows(2) {
            let (before, wire) = (pair[0], pair[1]);
            lost |= unknown(before);
            if lost && ask.is_some_and(Ask::once) {
                return Err(format!("call {call} was sent again, which is not safe"));
            }
            if lost && matches!(ask, Some(Ask::Commit { .. })) && !wire.resend {
                return Err(format!("call {call} was sent again without saying so"));
            }
            match before.answer {
                Some((_, _, Answer::Ok)) => {
                    return Err(format!("call {call} was sent again after it had succeeded"));
                }
                Some((_, at, Answer::Failed { retry_after: Some(wait), .. }))
                    if wire.at < at + wait =>
                {
                    return Err(format!("call {call} was sent again before its time"));
                }
                _ => {}
            }
        }
    }
    let Some((tokens, per_success)) = promises.budget else { return Ok(()) };
    for (process, (retries, successes)) in by_process {
        #[expect(clippy::cast_precision_loss, reason = "counts of one run")]
        let most = tokens + per_success * successes as f64;
        #[expect(clippy::cast_precision_loss, reason = "counts of one run")]
        let spent = retries as f64;
        if spent > most {
            return Err(format!("p{process} sent {spent} again; its budget gave {most}"));
        }
    }
    Ok(())
}
