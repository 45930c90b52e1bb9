//! What the layers cost: each alone and the whole stack, around the reference store in memory,
//! beside that store bare.
//!
//! The telemetry layer writes spans to a subscriber and figures to a recorder that take everything
//! and keep nothing, so that what is timed is the layer and not an exporter. The contestants take
//! turns in batches; what a layer adds is the difference of the medians. The limit of a layer is the
//! boxed future that each call of a trait object is: one allocation, which the row of the layer that
//! does nothing shows.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

#[path = "layers/contestants.rs"]
mod contestants;

use std::alloc::System;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use benches::{Numbers, Times, head, row};
use cap::Cap;
use contestants::{Contestant, contestants};
use memory_core::traits::RecordStore;
use memory_core::{
    CallContext, Commit, CommitId, MemoryId, MemoryItem, Precondition, Projection, TenantId,
    Timestamp, UserId, Vectors, Write,
};
use tokio::runtime::{Builder, Runtime};

/// Counts what is allocated.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

/// Turns that each contestant takes.
const ROUNDS: usize = 60;
/// Calls of a turn.
const CALLS: usize = 500;
/// Calls of one caller in a turn of several.
const EACH: usize = 4_000;
/// Turns of several callers.
const CROWDS: usize = 7;
/// Bytes of a small content, and of a large one.
const CONTENTS: [usize; 2] = [200, 256 * 1024];

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Fetch,
    Commit,
}

/// The arguments of a call, made before it is timed.
#[derive(Debug)]
struct Calls {
    context: CallContext,
    ids: [MemoryId; 1],
    projection: Projection,
    numbers: Numbers,
}

impl Calls {
    fn new() -> Result<Self> {
        Ok(Self {
            context: CallContext::new(TenantId::new("acme")?),
            ids: [MemoryId::new("m-1")?],
            projection: Projection::full(),
            numbers: Numbers::new(11),
        })
    }

    fn commit(&mut self, bytes: usize) -> Result<Commit> {
        let item = MemoryItem::new(self.ids[0].clone(), "x".repeat(bytes), Timestamp::MIN)?
            .with_user(UserId::new("ada")?);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.numbers.next_u64().to_le_bytes());
        let write = Write::put(item, Vectors::default(), Precondition::Any);
        Ok(Commit::new(CommitId::from_bytes(id), vec![write]))
    }

    fn commits(&mut self, count: usize, bytes: usize) -> Result<Vec<Commit>> {
        (0..count).map(|_| self.commit(bytes)).collect()
    }
}

fn main() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    contestants::subscribe()?;
    let all = contestants()?;
    let mut calls = Calls::new()?;
    for contestant in &all {
        let commit = calls.commit(CONTENTS[0])?;
        runtime.block_on(contestant.store.commit(&calls.context, commit))?;
    }
    added(&runtime, &all, &mut calls)?;
    heap(&runtime, &all, &mut calls)?;
    callers(&all)
}

/// What each adds to a call.
fn added(runtime: &Runtime, all: &[Contestant], calls: &mut Calls) -> Result<()> {
    let mut fetches = vec![Times::default(); all.len()];
    let mut commits = vec![Times::default(); all.len()];
    for round in 0..ROUNDS {
        for turn in 0..all.len() {
            let place = (turn + round) % all.len();
            let store = &all[place].store;
            turns(runtime, store, calls, Method::Fetch, &mut fetches[place])?;
            turns(runtime, store, calls, Method::Commit, &mut commits[place])?;
        }
    }
    head(
        "Layers: what each adds to one call, one thread, the store in memory",
        &["around the store", "fetch of one, ns", "adds, ns", "commit of one, ns", "adds, ns"],
    );
    let (bare_fetch, bare_commit) = (each(&fetches[0])?, each(&commits[0])?);
    for (place, contestant) in all.iter().enumerate() {
        let (fetch, commit) = (each(&fetches[place])?, each(&commits[place])?);
        row(&[
            contestant.name.to_owned(),
            format!("{fetch:.0}"),
            format!("{:.0}", fetch - bare_fetch),
            format!("{commit:.0}"),
            format!("{:.0}", commit - bare_commit),
        ]);
    }
    Ok(())
}

/// Nanoseconds of one call of a turn.
#[expect(clippy::cast_precision_loss, reason = "a figure for the eye")]
fn each(times: &Times) -> Result<f64> {
    Ok(times.median()?.as_secs_f64() * 1e9 / CALLS as f64)
}

/// One turn.
fn turns(
    runtime: &Runtime,
    store: &Arc<dyn RecordStore>,
    calls: &mut Calls,
    method: Method,
    times: &mut Times,
) -> Result<()> {
    match method {
        Method::Fetch => times.run(|| {
            runtime.block_on(async {
                for _ in 0..CALLS {
                    let found = store.fetch(&calls.context, &calls.ids, &calls.projection).await?;
                    ensure!(found[0].is_some(), "the memory is there");
                }
                Ok(())
            })
        }),
        Method::Commit => {
            let commits = calls.commits(CALLS, CONTENTS[0])?;
            times.run(|| {
                runtime.block_on(async {
                    for commit in commits {
                        store.commit(&calls.context, commit).await?;
                    }
                    Ok(())
                })
            })
        }
    }
}

/// Bytes that each allocates for one commit, beside the bare store, by the size of the content.
fn heap(runtime: &Runtime, all: &[Contestant], calls: &mut Calls) -> Result<()> {
    head(
        "Layers: bytes allocated for one commit beyond the bare store's, by bytes of its content",
        &["around the store", "200 bytes", "256 KiB", "grows by"],
    );
    let mut bare = None;
    for contestant in all {
        let mut bytes = [0_i64; 2];
        for (place, size) in CONTENTS.into_iter().enumerate() {
            // The last of several: the first ones register handles and grow tables.
            for commit in calls.commits(4, size)? {
                let before = HEAP.total_allocated();
                runtime.block_on(contestant.store.commit(&calls.context, commit))?;
                bytes[place] = i64::try_from(HEAP.total_allocated() - before)?;
            }
        }
        let [small, large] = bytes;
        let (bare_small, bare_large) = *bare.get_or_insert((small, large));
        let (small, large) = (small - bare_small, large - bare_large);
        row(&[
            contestant.name.to_owned(),
            small.to_string(),
            large.to_string(),
            (large - small).to_string(),
        ]);
    }
    Ok(())
}

/// Fetches a second by one and by several callers on two threads.
fn callers(all: &[Contestant]) -> Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    head(
        "Layers: fetches a second by several callers at once, two threads",
        &["callers", "bare store", "whole stack", "stack adds a call, ns of a thread"],
    );
    let ends = [&all[0], all.last().context("there is a stack")?];
    for callers in [1, 2, 8] {
        let mut times = [Times::default(), Times::default()];
        for round in 0..CROWDS {
            for turn in 0..2 {
                let place = (turn + round) % 2;
                let begun = times[place].start();
                runtime.block_on(crowd(&ends[place].store, callers))?;
                times[place].stop(begun);
            }
        }
        let [bare, stack] = [times[0].median()?, times[1].median()?];
        row(&[
            callers.to_string(),
            rate(bare, callers),
            rate(stack, callers),
            format!("{:.0}", share(stack, callers) - share(bare, callers)),
        ]);
    }
    Ok(())
}

async fn crowd(store: &Arc<dyn RecordStore>, callers: usize) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let store = store.clone();
        let calls = Calls::new()?;
        tasks.spawn(async move {
            for _ in 0..EACH {
                store.fetch(&calls.context, &calls.ids, &calls.projection).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for the eye")]
fn rate(time: Duration, callers: usize) -> String {
    format!("{:.0}", (callers * EACH) as f64 / time.as_secs_f64())
}

/// Nanoseconds of thread time of one call.
#[expect(clippy::cast_precision_loss, reason = "a figure for the eye")]
fn share(time: Duration, callers: usize) -> f64 {
    time.as_secs_f64() * 1e9 * callers.min(2) as f64 / (callers * EACH) as f64
}
