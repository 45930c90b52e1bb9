//! A load on one store until it fails: writers, readers, sweeps and erasures, checkpoints.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::traits::{
    EraseScope, KeywordIndex, KeywordQuery, RecordStore, RecordStoreExt, StoreMeta, TenantSpaces,
    VectorIndex, VectorQuery,
};
use memory_core::{CallContext, Clock as _, Error, ManualClock, Outcome, Result, UserId};
use memory_sqlite::SqliteStore;

use super::plan::{Ack, BRIEF, COMMON, Dice, Fate, GHOST, Ledger, Planned, Role, UPKEEP};
use super::plan::{space, vector};
use crate::common::{id, tenant};

/// Writers at once, besides the one that erases.
pub(crate) const WRITERS: u32 = 5;

/// Told of each commit before it is sent and after it was acknowledged.
pub(crate) trait Witness: Send + Sync {
    fn begin(&self, writer: u32, planned: &Planned);
    fn ack(&self, writer: u32, ack: &Ack);
    fn erase(&self, done: bool);
}

/// What all tasks of a load share.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    pub(crate) witness: Arc<dyn Witness>,
}

impl Load {
    fn ledger<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> T {
        work(&mut self.ledger.lock().unwrap())
    }

    /// Sets the space of both tenants where that was not acknowledged yet.
    ///
    /// # Errors
    /// What the store met.
    pub(crate) async fn prepare(&self) -> Result<()> {
        for name in ["t0", "t1"] {
            let context = tenant(name);
            let before = self.store.spaces(&context).await?;
            if before.active.is_none() {
                self.ledger(|ledger| ledger.resets.insert(name.to_owned()));
                let spaces = TenantSpaces { active: Some(space()), next: None, ..before };
                self.store.set_spaces(&context, &spaces).await?;
            }
            self.ledger(|ledger| ledger.spaces.insert(name.to_owned()));
        }
        Ok(())
    }

    /// Runs until every writer has failed.
    pub(crate) async fn run(&self, seed: u64) {
        if self.prepare().await.is_err() {
            return;
        }
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let (load, dice) = (self.clone(), Dice::new(seed ^ u64::from(writer)));
            tasks.push(tokio::spawn(async move { load.write(writer, dice).await }));
        }
        let (load, dice) = (self.clone(), Dice::new(seed ^ u64::from(UPKEEP)));
        tasks.push(tokio::spawn(async move { load.upkeep(dice).await }));
        let load = self.clone();
        tasks.push(tokio::spawn(async move { load.read().await }));
        for task in tasks {
            task.await.expect("no task panics");
        }
    }

    async fn write(&self, writer: u32, mut dice: Dice) {
        loop {
            let planned = self.ledger(|ledger| ledger.plan(writer, &mut dice));
            if self.send(writer, &planned).await.is_err() {
                return;
            }
        }
    }

    async fn send(&self, writer: u32, planned: &Planned) -> Result<()> {
        self.witness.begin(writer, planned);
        match self.store.commit(&tenant(&planned.tenant), planned.commit()).await {
            Ok(receipt) => {
                let ack = Ack::of(&receipt);
                self.witness.ack(writer, &ack);
                self.ledger(|ledger| ledger.ack(writer, ack));
                Ok(())
            }
            Err(error) => {
                self.ledger(|ledger| ledger.fail(writer, fate(&error)));
                Err(error)
            }
        }
    }

    /// Makes items that expire and items that are erased; sweeps and erases now and then.
    async fn upkeep(&self, mut dice: Dice) {
        let context = tenant("t0");
        loop {
            let role = if dice.often(50) { Role::Ghost } else { Role::Brief };
            let planned =
                self.ledger(|ledger| ledger.plan_upkeep(role, self.clock.now(), &mut dice));
            if self.send(UPKEEP, &planned).await.is_err() {
                return;
            }
            let done = match dice.below(8) {
                0 => self.erase(&context).await,
                1 | 2 => {
                    self.clock.advance(BRIEF);
                    self.store.sweep_expired(&context, 100).await.map(|_| ())
                }
                _ => Ok(()),
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn erase(&self, context: &CallContext) -> Result<()> {
        self.witness.erase(false);
        self.ledger(Ledger::begin_erasure);
        let scope = EraseScope::User(UserId::new(GHOST)?);
        let mut resume = None;
        loop {
            let step = self.store.erase(context, &scope, resume).await?;
            match step.next {
                Some(next) => resume = Some(next),
                None => break,
            }
        }
        self.witness.erase(true);
        self.ledger(Ledger::end_erasure);
        Ok(())
    }

    /// Searches and reads, so that snapshots stand beside the checkpoints.
    async fn read(&self) {
        let context = tenant("t0");
        let mut number = 0;
        loop {
            number += 1;
            let words = KeywordQuery::new(COMMON, 5);
            let near = VectorQuery::new(space(), vector(number), 5);
            let store = self.store.as_ref();
            if KeywordIndex::search(store, &context, &words).await.is_err()
                || VectorIndex::search(store, &context, &near).await.is_err()
                || store.fetch_one(&context, &id("nobody")).await.is_err()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn fate(error: &Error) -> Fate {
    match error.outcome() {
        Outcome::Unknown => Fate::Open,
        Outcome::NotApplied => Fate::Denied,
    }
}
