//! What is to be done in the background, for whom, and when.
//!
//! Tenants take turns, a step each, so that one with much to do does not keep the others waiting.
//! A tenant whose step failed rests, and nobody else does.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use futures::channel::oneshot;
use memory_core::limits::FETCH_IDS;
use memory_core::{MemoryId, TenantId};

use super::idle::Waiter;
use crate::tenant::EmbedRun;

/// First rest after a failure. 1 s: a server that restarts is back after some of them.
const FIRST_REST: Duration = Duration::from_secs(1);
/// Longest rest after failures. 60 s: what was away for long is asked once a minute.
const MOST_REST: Duration = Duration::from_secs(60);
/// After a failure, the time in which no tenant comes back from its rest. 100 ms: an embedder that
/// is away for everybody is asked ten times a second, however many tenants wait for it.
const RETRY_GAP: Duration = Duration::from_millis(100);
/// Most tenants remembered as looked at, or as having failed; more, and all are forgotten, which
/// costs each one walk through its items or an attempt that comes early. 10,000: with names of
/// usual lengths two megabytes.
const MOST_SEEN: usize = 10_000;
/// Most ids that wait, of all tenants together; beyond it a tenant is queued for all that it lacks,
/// which the store names. 100,000: about ten megabytes with ids of usual lengths.
const MOST_IDS: usize = 100_000;
/// Most passes that have begun; the tenants beyond wait for one to end. 100: each holds the 1,000
/// ids of a page, so that they are as many as may wait.
const MOST_BEGUN: usize = 100;

/// What is to be done for a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// Whatever lacks a vector.
    All,
    /// These memories, as far as they lack one: at most 1,000, for more than a fetch may have are
    /// found as well by asking the store.
    These(BTreeSet<MemoryId>),
}

impl Queued {
    fn add(&mut self, other: Self) {
        if let (Self::These(ids), Self::These(more)) = (&mut *self, other) {
            ids.extend(more);
            if ids.len() <= FETCH_IDS {
                return;
            }
        }
        *self = Self::All;
    }

    fn ids(&self) -> usize {
        match self {
            Self::All => 0,
            Self::These(ids) => ids.len(),
        }
    }
}

/// What is left to do for a tenant: one of the two at least.
#[derive(Debug, Default)]
struct Job {
    /// A pass that has begun.
    run: Option<EmbedRun>,
    /// What comes after it.
    wanted: Option<Queued>,
}

/// How long a tenant rests.
#[derive(Debug, Default)]
struct Rest {
    until: Duration,
    pauses: Pauses,
}

/// The queue. Times are of one clock that never goes back.
#[derive(Debug, Default)]
pub(super) struct State {
    jobs: HashMap<TenantId, Job>,
    /// Whose turn it is, in order. Each key of `jobs` is here, in `resting`, or at work.
    turns: VecDeque<TenantId>,
    /// Who waits for the end of a rest, and when that is.
    resting: BTreeSet<(Duration, TenantId)>,
    /// The rests of tenants whose last step failed, whether something is left to do or not.
    rests: HashMap<TenantId, Rest>,
    /// Until then nobody comes back from a rest.
    no_retry_before: Duration,
    /// Tenants that were queued for all that they lack since the memory was opened.
    seen: HashSet<TenantId>,
    /// Ids in `jobs`, but for those of passes.
    ids: usize,
    /// Passes in `jobs`.
    begun: usize,
    /// The tenant that is being worked on.
    pub(super) at_work: Option<TenantId>,
    pub(super) running: bool,
    pub(super) stopping: bool,
    /// Ends the step at hand by being dropped.
    pub(super) step: Option<oneshot::Sender<()>>,
    /// Told when the thread has ended.
    pub(super) ended: Vec<oneshot::Sender<()>>,
    /// Told when nothing is left to do.
    pub(super) waiters: Vec<Waiter>,
    /// Whether a thread tells those whose time is up.
    pub(super) timing: bool,
}

impl State {
    pub(super) fn is_idle(&self) -> bool {
        self.at_work.is_none() && self.jobs.is_empty()
    }

    /// Tenants that wait or are being worked on.
    pub(super) fn waiting(&self) -> u64 {
        // What is worked on may have been queued again meanwhile.
        let also = self.at_work.as_ref().is_some_and(|tenant| !self.jobs.contains_key(tenant));
        self.jobs.len() as u64 + u64::from(also)
    }

    /// Queues a tenant for all that it lacks, unless it was before; says whether.
    pub(super) fn first_use(&mut self, tenant: &TenantId, now: Duration) -> bool {
        if self.seen.contains(tenant) {
            return false;
        }
        if self.seen.len() >= MOST_SEEN {
            self.seen.clear();
        }
        self.seen.insert(tenant.clone());
        self.queue(tenant.clone(), Queued::All, now);
        true
    }

    /// Queues a tenant for all that it lacks after a first rest, in which the store comes to what
    /// it was sent; one that waits already is looked through as a whole when its turn comes, and
    /// once more with its next use.
    pub(super) fn unsure(&mut self, tenant: &TenantId, now: Duration) {
        let waits = self.jobs.contains_key(tenant) || self.at_work.as_ref() == Some(tenant);
        self.want(tenant.clone(), Queued::All);
        match waits {
            true => drop(self.seen.remove(tenant)),
            false => drop(self.resting.insert((now.saturating_add(FIRST_REST), tenant.clone()))),
        }
    }

    pub(super) fn queue(&mut self, tenant: TenantId, what: Queued, now: Duration) {
        let known = self.jobs.contains_key(&tenant);
        self.want(tenant.clone(), what);
        if !known && self.at_work.as_ref() != Some(&tenant) {
            self.line_up(tenant, now);
        }
    }

    fn want(&mut self, tenant: TenantId, what: Queued) {
        let job = self.jobs.entry(tenant).or_default();
        let before = job.wanted.as_ref().map_or(0, Queued::ids);
        let mut wanted = match job.wanted.take() {
            Some(mut wanted) => {
                wanted.add(what);
                wanted
            }
            None => what,
        };
        let others = self.ids - before;
        if wanted.ids() > before && others + wanted.ids() > MOST_IDS {
            wanted = Queued::All;
        }
        self.ids = others + wanted.ids();
        job.wanted = Some(wanted);
    }

    /// Puts a tenant that has a job where it waits.
    fn line_up(&mut self, tenant: TenantId, now: Duration) {
        match self.rests.get(&tenant).filter(|rest| rest.until > now) {
            Some(rest) => drop(self.resting.insert((rest.until, tenant))),
            None => self.turns.push_back(tenant),
        }
    }

    /// Gives a turn to the tenant whose rest has been over for longest: one at a time, for if it
    /// fails the others wait on.
    pub(super) fn wake_rested(&mut self, now: Duration) {
        if self.next_rested().is_some_and(|at| at <= now)
            && let Some((_, tenant)) = self.resting.pop_first()
        {
            self.turns.push_back(tenant);
        }
    }

    /// When the next tenant comes back from its rest.
    pub(super) fn next_rested(&self) -> Option<Duration> {
        self.resting.first().map(|(until, _)| (*until).max(self.no_retry_before))
    }

    /// Whose turn it is, and what is to be done; it is at work from here on.
    pub(super) fn take_turn(&mut self) -> Option<(TenantId, EmbedRun)> {
        let has_begun = |tenant| self.jobs.get(tenant).is_some_and(|job| job.run.is_some());
        let place = match self.begun < MOST_BEGUN {
            true => 0,
            false => self.turns.iter().position(has_begun)?,
        };
        let tenant = self.turns.remove(place)?;
        let job = self.jobs.get_mut(&tenant)?;
        let run = match job.run.take() {
            Some(run) => {
                self.begun -= 1;
                run
            }
            None => {
                let wanted = job.wanted.take().unwrap_or(Queued::All);
                self.ids -= wanted.ids();
                EmbedRun::of(wanted)
            }
        };
        if job.wanted.is_none() {
            self.jobs.remove(&tenant);
        }
        self.at_work = Some(tenant.clone());
        Some((tenant, run))
    }

    /// The tenant at work has done a step; with `run`, more are left.
    pub(super) fn stepped(&mut self, tenant: TenantId, run: Option<EmbedRun>) {
        self.at_work = None;
        if self.stopping {
            return;
        }
        self.rests.remove(&tenant);
        self.no_retry_before = Duration::ZERO;
        if let Some(run) = run {
            self.jobs.entry(tenant.clone()).or_default().run = Some(run);
            self.begun += 1;
        }
        if self.jobs.contains_key(&tenant) {
            self.turns.push_back(tenant);
        }
    }

    /// The step of the tenant at work failed. It is tried again after a rest if that is worth it,
    /// and otherwise from the tenant's next use on.
    pub(super) fn failed(
        &mut self,
        tenant: TenantId,
        again: bool,
        asked: Option<Duration>,
        now: Duration,
    ) {
        self.at_work = None;
        if self.stopping {
            return;
        }
        if self.rests.len() >= MOST_SEEN && !self.rests.contains_key(&tenant) {
            self.rests.clear();
        }
        let rest = self.rests.entry(tenant.clone()).or_default();
        rest.until = now.saturating_add(rest.pauses.next(asked));
        self.no_retry_before = now.saturating_add(RETRY_GAP);
        match again {
            true => self.want(tenant.clone(), Queued::All),
            false => drop(self.seen.remove(&tenant)),
        }
        if self.jobs.contains_key(&tenant) {
            self.line_up(tenant, now);
        }
    }

    /// Forgets what was to be done.
    pub(super) fn clear(&mut self) {
        self.jobs.clear();
        self.turns.clear();
        self.resting.clear();
        (self.ids, self.begun) = (0, 0);
    }
}

/// Growing pauses.
#[derive(Debug, Default)]
struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    /// Twice as long as the one before, or as long as was asked for, within the bounds.
    fn next(&mut self, asked: Option<Duration>) -> Duration {
        let pause = self.last.map_or(FIRST_REST, |last| last.saturating_mul(2).min(MOST_REST));
        self.last = Some(pause);
        asked.unwrap_or(pause).clamp(pause, MOST_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    fn id(text: &str) -> MemoryId {
        MemoryId::new(text).unwrap()
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn these(ids: &[&str]) -> Queued {
        Queued::These(ids.iter().copied().map(id).collect())
    }

    /// So many ids that begin with this.
    fn many(prefix: &str, count: usize) -> Queued {
        Queued::These((0..count).map(|n| id(&format!("{prefix}{n}"))).collect())
    }

    fn wanted<'a>(state: &'a State, name: &str) -> &'a Queued {
        state.jobs[&tenant(name)].wanted.as_ref().unwrap()
    }

    /// Whose turn it is at a time; the names of everybody, in order.
    fn turns(state: &mut State, now: Duration) -> Vec<String> {
        let mut names = Vec::new();
        state.wake_rested(now);
        while let Some((tenant, _)) = state.take_turn() {
            names.push(tenant.to_string());
            state.stepped(tenant, None);
            state.wake_rested(now);
        }
        names
    }

    #[test]
    fn pauses_grow_within_their_bounds() {
        let mut pauses = Pauses::default();
        let seconds: Vec<u64> = (0..8).map(|_| pauses.next(None).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        let mut pauses = Pauses::default();
        assert_eq!(pauses.next(Some(Duration::from_secs(5))).as_secs(), 5);
        assert_eq!(pauses.next(Some(Duration::from_secs(1))).as_secs(), 2, "not sooner");
        assert_eq!(pauses.next(Some(Duration::MAX)).as_secs(), 60);
    }

    #[test]
    fn what_is_queued_for_a_tenant_adds_up_to_a_bound() {
        let mut state = State::default();
        state.queue(tenant("t"), these(&["a"]), START);
        state.queue(tenant("t"), these(&["a", "b"]), START);
        assert_eq!(wanted(&state, "t"), &these(&["a", "b"]));
        assert_eq!((state.turns.len(), state.ids), (1, 2), "a tenant stands in the queue once");
        state.queue(tenant("t"), many("", FETCH_IDS), START);
        assert_eq!((wanted(&state, "t"), state.ids), (&Queued::All, 0));
        state.queue(tenant("t"), these(&["c"]), START);
        assert_eq!(wanted(&state, "t"), &Queued::All);
        state.queue(tenant("o"), Queued::All, START);
        assert_eq!(state.turns, [tenant("t"), tenant("o")]);
    }

    #[test]
    fn the_ids_of_all_tenants_have_a_bound() {
        let mut state = State::default();
        let full = MOST_IDS / FETCH_IDS;
        for n in 0..full {
            state.queue(tenant(&format!("t{n}")), many("", FETCH_IDS), START);
        }
        assert_eq!(state.ids, MOST_IDS);
        assert!(state.jobs.values().all(|job| job.wanted.as_ref().unwrap().ids() == FETCH_IDS));
        state.queue(tenant("more"), these(&["a"]), START);
        assert_eq!((wanted(&state, "more"), state.ids), (&Queued::All, MOST_IDS));
        // What is taken makes room.
        let (first, _) = state.take_turn().unwrap();
        assert_eq!((&*first.to_string(), state.ids), ("t0", MOST_IDS - FETCH_IDS));
        state.queue(tenant("yet another"), these(&["a"]), START);
        assert_eq!(wanted(&state, "yet another"), &these(&["a"]));
        state.clear();
        assert_eq!((state.ids, state.waiting()), (0, 1), "the one at work");
    }

    #[test]
    fn tenants_take_turns_step_by_step() {
        let mut state = State::default();
        state.queue(tenant("a"), Queued::All, START);
        state.queue(tenant("b"), Queued::All, START);
        let mut names = Vec::new();
        for _ in 0..3 {
            let (tenant, run) = state.take_turn().unwrap();
            names.push(tenant.to_string());
            // What comes meanwhile is done after the pass.
            state.queue(tenant.clone(), these(&["x"]), START);
            assert_eq!(state.waiting(), 2);
            state.stepped(tenant, Some(run));
        }
        assert_eq!(names, ["a", "b", "a"]);
        assert_eq!(state.begun, 2);
        assert_eq!(turns(&mut state, START), ["b", "a", "b", "a"], "the passes, then the rest");
        assert!(state.is_idle() && state.begun == 0 && state.ids == 0);
    }

    #[test]
    fn passes_that_have_begun_have_a_bound() {
        let mut state = State::default();
        for n in 0..MOST_BEGUN + 2 {
            state.queue(tenant(&format!("t{n}")), Queued::All, START);
        }
        for _ in 0..3 * MOST_BEGUN {
            let (tenant, run) = state.take_turn().unwrap();
            state.stepped(tenant, Some(run));
            assert!(state.begun <= MOST_BEGUN);
        }
        assert_eq!(turns(&mut state, START).len(), MOST_BEGUN + 2, "nobody is forgotten");
    }

    #[test]
    fn who_fails_rests_and_nobody_else() {
        let mut state = State::default();
        state.queue(tenant("bad"), Queued::All, START);
        let (bad, _) = state.take_turn().unwrap();
        state.failed(bad, true, None, START);
        assert!(state.take_turn().is_none() && !state.is_idle());
        assert_eq!(state.next_rested(), Some(START + FIRST_REST));
        // More work for it does not end its rest.
        state.queue(tenant("bad"), these(&["x"]), START);
        state.queue(tenant("good"), Queued::All, START);
        assert_eq!(turns(&mut state, START), ["good"]);
        assert_eq!(turns(&mut state, START + FIRST_REST), ["bad"]);
        assert!(state.is_idle() && state.rests.is_empty());
    }

    #[test]
    fn what_fails_for_good_waits_for_the_next_use_and_for_its_rest() {
        let mut state = State::default();
        assert!(state.first_use(&tenant("t"), START));
        assert!(!state.first_use(&tenant("t"), START));
        let (failing, _) = state.take_turn().unwrap();
        state.failed(failing, false, None, START);
        assert!(state.is_idle());
        assert!(state.first_use(&tenant("t"), START), "it is looked at again");
        assert!(turns(&mut state, START).is_empty());
        assert_eq!(turns(&mut state, START + FIRST_REST), ["t"]);
    }

    #[test]
    fn who_comes_back_from_a_rest_comes_alone_until_one_succeeds() {
        let mut state = State::default();
        for name in ["a", "b", "c"] {
            state.queue(tenant(name), Queued::All, START);
        }
        for _ in 0..3 {
            let (tenant, _) = state.take_turn().unwrap();
            state.failed(tenant, true, None, START);
        }
        let now = START + FIRST_REST;
        state.wake_rested(now);
        let (first, _) = state.take_turn().unwrap();
        state.failed(first, true, None, now);
        state.wake_rested(now);
        assert!(state.take_turn().is_none());
        assert_eq!(state.next_rested(), Some(now + RETRY_GAP));
        // The one after it succeeds, and the last one need not wait.
        assert_eq!(turns(&mut state, now + RETRY_GAP), ["b", "c"]);
        assert_eq!(state.waiting(), 1);
    }
}
