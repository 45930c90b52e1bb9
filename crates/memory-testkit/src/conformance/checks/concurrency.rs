//! Many at once: nobody's work is lost, and what only one can have one has.

use std::future::Future;
use std::time::Duration;

use memory_core::{
    Commit, CommitId, ErrorKind, Filter, IdempotencyKey, LeaseName, Precondition, Query, Result,
    Vectors, Write,
};

use crate::conformance::bench::{Bench, item, memory_ids};
use crate::conformance::failure::{CheckResult, Failure, ensure, ensure_eq};

const TASKS: u8 = 16;

/// Runs a task for each number side by side and collects their answers.
async fn side_by_side<T, F>(task: impl Fn(u8) -> F) -> CheckResult<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = (0..TASKS).map(|n| tokio::spawn(task(n))).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.map_err(|_| Failure::new("a task panicked"))?);
    }
    Ok(answers)
}

/// A commit id that no other task uses.
fn commit_id(task: u8, round: u32) -> CommitId {
    let mut bytes = [0xc0; 16];
    bytes[0] = task;
    bytes[1..5].copy_from_slice(&round.to_be_bytes());
    CommitId::from_bytes(bytes)
}

/// Sixteen tasks count up one item by compare-and-swap: no increment is lost.
pub(crate) async fn no_update_is_lost(b: &Bench) -> CheckResult {
    const EACH: u32 = 10;
    let now = b.now();
    b.put(&b.ctx, item("counter", "0", now)?).await?;
    let answers = side_by_side(|task| {
        let (records, ctx) = (b.records(), b.ctx.clone());
        async move {
            let (mut done, mut round) = (0, 0);
            while done < EACH {
                round += 1;
                let found =
                    records.fetch(&ctx, &memory_ids(&["counter"])?, &Default::default()).await?;
                let Some(Some(mut counter)) = found.into_iter().next() else {
                    return Err(memory_core::Error::new(ErrorKind::NotFound, "no counter"));
                };
                let value: u32 = counter.content().parse().unwrap_or_default();
                // Lets the others read the same value, also where calls never wait.
                tokio::task::yield_now().await;
                counter.set_content((value + 1).to_string())?;
                let swap = counter.revision.clone().map(Precondition::Revision).unwrap_or_default();
                let write = Write::put(counter, Vectors::default(), swap);
                match records.commit(&ctx, Commit::new(commit_id(task, round), vec![write])).await {
                    Ok(_) => done += 1,
                    Err(error) if error.kind() == ErrorKind::Conflict => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(done)
        }
    })
    .await?;
    let sum: u32 = answers.into_iter().collect::<Result<Vec<_>>>()?.into_iter().sum();
    let counter = b.there(b.get(&b.ctx, "counter").await?)?;
    ensure_eq!(counter.content(), sum.to_string(), "the counter after {sum} increments");
    ensure_eq!(sum, EACH * u32::from(TASKS), "the increments");
    Ok(())
}

/// Of many creates of one id exactly one wins, and it is the one that is there.
pub(crate) async fn one_create_wins(b: &Bench) -> CheckResult {
    for round in 0..5 {
        let (id, now) = (format!("contested {round}"), b.now());
        let answers = side_by_side(|task| {
            let (records, ctx, id) = (b.records(), b.ctx.clone(), id.clone());
            async move {
                let one = item(&id, &task.to_string(), now)?;
                let write = Write::put(one, Vectors::default(), Precondition::Absent);
                let commit = Commit::new(commit_id(task, round), vec![write]);
                records.commit(&ctx, commit).await.map(|_| task)
            }
        })
        .await?;
        let winners: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        ensure_eq!(winners.len(), 1, "winners");
        let others = answers.iter().filter_map(|answer| answer.as_ref().err());
        for error in others {
            ensure_eq!(error.kind(), ErrorKind::AlreadyExists, "what a loser is told");
        }
        let there = b.there(b.get(&b.ctx, &id).await?)?;
        ensure_eq!(there.content(), winners[0].to_string(), "whose item is there");
    }
    Ok(())
}

/// Writes of distinct ids all arrive, and each answer is its own.
pub(crate) async fn every_writer_is_heard(b: &Bench) -> CheckResult {
    let now = b.now();
    let answers = side_by_side(|task| {
        let (records, ctx) = (b.records(), b.ctx.clone());
        async move {
            for n in 0..25 {
                let id = format!("{task}-{n}");
                let write =
                    Write::put(item(&id, &id, now)?, Vectors::default(), Precondition::Absent);
                let commit = Commit::new(commit_id(task, n), vec![write]);
                let receipt = records.commit(&ctx, commit).await?;
                if receipt.results[0].id.as_str() != id {
                    return Err(memory_core::Error::invalid("the answer of another commit"));
                }
            }
            Ok(())
        }
    })
    .await?;
    answers.into_iter().collect::<Result<Vec<_>>>()?;
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 25 * u64::from(TASKS), "items");
    for item in b.walk(&b.ctx, Query::new(1_000)).await? {
        ensure_eq!(item.content(), item.id.as_str(), "the content of {}", item.id);
    }
    Ok(())
}

/// One failing commit among many fails alone.
pub(crate) async fn failures_stay_alone(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["taken"]).await?;
    let now = b.now();
    let answers = side_by_side(|task| {
        let (records, ctx) = (b.records(), b.ctx.clone());
        async move {
            let mut writes = vec![Write::put(
                item(&format!("of {task}"), "x", now)?,
                Vectors::default(),
                Precondition::Absent,
            )];
            if task % 2 == 0 {
                let bad = item("taken", "x", now)?;
                writes.push(Write::put(bad, Vectors::default(), Precondition::Absent));
            }
            records.commit(&ctx, Commit::new(commit_id(task, 0), writes)).await
        }
    })
    .await?;
    for (task, answer) in answers.iter().enumerate() {
        let there = b.get(&b.ctx, &format!("of {task}")).await?.is_some();
        ensure_eq!(answer.is_ok(), task % 2 == 1, "the answer of task {task}: {answer:?}");
        ensure_eq!(there, task % 2 == 1, "the item of task {task}");
    }
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 9, "items");
    Ok(())
}

/// Of many commits under one key one happens, and all give its answer.
pub(crate) async fn one_commit_under_a_key_happens(b: &Bench) -> CheckResult {
    let now = b.now();
    let answers = side_by_side(|task| {
        let (records, ctx) = (b.records(), b.ctx.clone());
        async move {
            let write = Write::put(item("a", "x", now)?, Vectors::default(), Precondition::Absent);
            let commit = Commit::new(commit_id(task, 0), vec![write])
                .with_idempotency(Some(IdempotencyKey::new("key", [1; 32])?));
            records.commit(&ctx, commit).await
        }
    })
    .await?;
    let receipts = answers.into_iter().collect::<Result<Vec<_>>>()?;
    ensure_eq!(receipts.iter().filter(|one| !one.replayed).count(), 1, "commits that happened");
    let there = b.there(b.get(&b.ctx, "a").await?)?;
    for receipt in receipts {
        ensure_eq!(receipt.results[0].revision, there.revision, "the revision of an answer");
    }
    Ok(())
}

/// Of many that reach for a lease exactly one gets it.
pub(crate) async fn one_lease_is_granted(b: &Bench) -> CheckResult {
    let leases = b.leases()?;
    let name = LeaseName::new("job")?;
    let answers = side_by_side(|_| {
        let (leases, ctx, name) = (leases.clone(), b.ctx.clone(), name.clone());
        async move { leases.acquire(&ctx, &name, Duration::from_secs(60)).await }
    })
    .await?;
    let granted: Vec<_> =
        answers.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    ensure_eq!(granted.len(), 1, "leases granted at once");
    ensure!(leases.renew(&b.ctx, &granted[0], Duration::from_secs(60)).await?.is_some(), "it");
    Ok(())
}
