//! The protocol of the cache: what a server does with groups, and the steps of readers and writers.
//!
//! Three machines without time, network or randomness of their own. The layer drives [`Reader`] and
//! [`Writer`]; [`crate::LocalCache`] is made of [`Groups`], and every other server has to answer as
//! they do. An exhaustive search over the three shows what holds:
//!
//! 1. A read that begins after a write was acknowledged gives no older value, whatever is flushed,
//!    evicted or lost on the way, if the server took the last step of the write.
//! 2. It holds from the commit on, acknowledged or not, if the write's mark still stood by then. So
//!    a writer that ends between its commit and its last step leaves nothing stale.
//! 3. Whoever crashes, a key can be kept again when the mark's time is over.
//!
//! Why: a value stands under the token of its group, and a token that stood before a write is gone
//! when the write ends. What a reader read before the commit it can keep only under a token that it
//! saw before, and so never after the end.

use std::collections::BTreeMap;
use std::time::Duration;

/// What stands on a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing<T> {
    /// Values may be kept under this token.
    Token(T),
    /// A write is under way.
    Mark(T),
}

/// What one write makes stale together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group<K, T, V> {
    /// What stands on it.
    pub standing: Standing<T>,
    /// From this time on there is neither token nor mark nor value.
    pub until: Duration,
    /// Values by entry, each with the wider group's token that it was kept under.
    pub values: BTreeMap<K, (T, V)>,
}

/// What a read saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen<T, V> {
    /// A value.
    Hit(V),
    /// No value, and the tokens of the group and of the wider group.
    Miss(T, T),
    /// A write of one of the two is under way.
    InFlight,
}

/// The groups of one tenant on a server: the definition of what [`memory_core::traits::Cache`] does.
///
/// Times are of the server's clock. A group whose time is over is as one that never was, and so is
/// one that was evicted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Groups<K, T, V> {
    groups: BTreeMap<K, Group<K, T, V>>,
}

impl<K, T, V> Default for Groups<K, T, V> {
    fn default() -> Self {
        Self { groups: BTreeMap::new() }
    }
}

impl<K: Ord + Clone, T: Copy + Eq, V: Clone> Groups<K, T, V> {
    /// Reads an entry of a group under a wider group. Where there is no token and no mark, it issues
    /// a token that lasts for `life`; where either has a mark, it issues none.
    pub fn read(
        &mut self,
        key: (&K, &K, &K),
        life: Duration,
        now: Duration,
        mut fresh: impl FnMut() -> T,
    ) -> Seen<T, V> {
        let (group, under, entry) = key;
        for name in [group, under] {
            if self.live(name, now).is_some_and(|it| matches!(it.standing, Standing::Mark(_))) {
                return Seen::InFlight;
            }
        }
        let mut tokens = [group, under].map(|name| match self.live(name, now) {
            Some(Group { standing: Standing::Token(token), .. }) => *token,
            _ => {
                let token = fresh();
                self.stand(name, Standing::Token(token), now.saturating_add(life));
                token
            }
        });
        // One group under itself has one token.
        if group == under {
            tokens[1] = tokens[0];
        }
        let value = self.groups.get(group).and_then(|it| it.values.get(entry));
        match value {
            Some((kept_under, value)) if *kept_under == tokens[1] => Seen::Hit(value.clone()),
            _ => Seen::Miss(tokens[0], tokens[1]),
        }
    }

    /// Keeps a value if both groups still have the tokens; says whether it did. It lasts as long as
    /// the group's token.
    pub fn fill(&mut self, key: (&K, &K, K), tokens: (T, T), value: V, now: Duration) -> bool {
        let (group, under, entry) = key;
        let has = |it: Option<&mut Group<K, T, V>>, token| {
            it.is_some_and(|it| it.standing == Standing::Token(token))
        };
        if !has(self.live(under, now), tokens.1) || !has(self.live(group, now), tokens.0) {
            return false;
        }
        if let Some(it) = self.groups.get_mut(group) {
            it.values.insert(entry, (tokens.1, value));
        }
        true
    }

    /// Puts a mark on a group, whatever stands there, for `most`; its values are gone.
    pub fn begin(&mut self, group: &K, mark: T, most: Duration, now: Duration) {
        self.stand(group, Standing::Mark(mark), now.saturating_add(most));
    }

    /// Puts a fresh token on a group, for `life`, and removes its values, unless another write's
    /// mark stands there.
    pub fn end(&mut self, group: &K, mark: T, fresh: T, life: Duration, now: Duration) {
        let other = |it: &mut Group<K, T, V>| matches!(it.standing, Standing::Mark(m) if m != mark);
        if !self.live(group, now).is_some_and(other) {
            self.stand(group, Standing::Token(fresh), now.saturating_add(life));
        }
    }

    /// Takes a group away, as eviction and the end of its time do.
    pub fn evict(&mut self, group: &K) -> Option<Group<K, T, V>> {
        self.groups.remove(group)
    }

    /// What stands on a group.
    pub fn get(&self, group: &K) -> Option<&Group<K, T, V>> {
        self.groups.get(group)
    }

    /// All groups, those included whose time is over and that nobody has looked at since.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Group<K, T, V>)> {
        self.groups.iter()
    }

    /// All groups, to be changed at will: for a test that names tokens anew.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut Group<K, T, V>)> {
        self.groups.iter_mut()
    }

    /// How many groups there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The group as it is at `now`; one whose time is over is removed.
    fn live(&mut self, name: &K, now: Duration) -> Option<&mut Group<K, T, V>> {
        if self.groups.get(name).is_some_and(|it| it.until <= now) {
            self.groups.remove(name);
        }
        self.groups.get_mut(name)
    }

    fn stand(&mut self, name: &K, standing: Standing<T>, until: Duration) {
        self.groups.insert(name.clone(), Group { standing, until, values: BTreeMap::new() });
    }
}

/// What a reader of one key does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reader<T> {
    /// Read the cache.
    Ask,
    /// Lead a flight of the key under these tokens, or join one of the same tokens.
    Gather(T),
    /// Wait for the leader of the flight that it joined.
    Wait(T),
    /// Read the store; then keep what was read under the tokens, if there are any.
    Load(Option<T>),
    /// Keep what was read.
    Fill(T),
    /// Answer.
    Done,
}

/// What a reader met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEvent<T> {
    /// The cache had a value that can be served.
    Served,
    /// The cache had a value that cannot be served: it expired, or its bytes are no value of this
    /// key.
    Spoilt,
    /// The cache had none.
    Missed(T),
    /// A write is under way.
    InFlight,
    /// The cache did not answer, or was not asked.
    Failed,
    /// It leads a flight.
    Leads,
    /// It joined one.
    Joined,
    /// The leader has read the store, and this is its value too.
    Landed,
    /// The leader's call was dropped.
    Abandoned,
    /// The leader's read failed; every caller has its own failures.
    Crashed,
    /// The store was read.
    Loaded,
    /// What was read is kept, or refused, or nobody knows.
    Filled,
}

impl<T: Copy> Reader<T> {
    /// The state after an event. What cannot happen in a state changes nothing.
    #[must_use]
    pub fn after(self, event: ReadEvent<T>) -> Self {
        use ReadEvent as E;
        match (self, event) {
            (Self::Ask, E::Served) => Self::Done,
            (Self::Ask, E::Missed(token)) => Self::Gather(token),
            (Self::Ask, E::Spoilt | E::InFlight | E::Failed) => Self::Load(None),
            (Self::Gather(token), E::Leads) => Self::Load(Some(token)),
            (Self::Gather(token), E::Joined) => Self::Wait(token),
            (Self::Wait(_), E::Landed) => Self::Done,
            (Self::Wait(token), E::Abandoned) => Self::Gather(token),
            (Self::Wait(token), E::Crashed) => Self::Load(Some(token)),
            (Self::Load(Some(token)), E::Loaded) => Self::Fill(token),
            (Self::Load(None), E::Loaded) | (Self::Fill(_), E::Filled) => Self::Done,
            (state, _) => state,
        }
    }
}

/// Whether a reader may take what a flight brings: only if it saw the very tokens that the flight
/// reads the store under. Then no write that was acknowledged before the reader began has ended
/// since those tokens were issued, and what the flight reads is no older than the reader may see.
pub fn may_join<T: Eq>(flight: &T, seen: &T) -> bool {
    flight == seen
}

/// What a writer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writer<T> {
    /// Put a mark on the groups.
    Begin,
    /// Commit, under the mark if there is one.
    Commit(Option<T>),
    /// Set fresh tokens.
    End(Option<T>),
    /// Put a mark on the groups after a commit of unknown outcome that had none.
    Remark,
    /// Answer.
    Done(Verdict),
}

/// How a write left the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Refused: the mark could not be put, and the settings are strict. Nothing was committed.
    Refused,
    /// Nothing stale is left.
    Clean,
    /// The mark stands until its time is over: nothing stale is left if it still stood when the
    /// commit took effect.
    Marked,
    /// Values from before the commit may be there, for `max_stale` at the longest.
    Unconfirmed,
}

/// What a writer met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEvent<T> {
    /// The mark stands.
    Began(T),
    /// Nobody knows whether it stands.
    BeginFailed,
    /// The commit has taken effect.
    Applied,
    /// It has not, and will not.
    NotApplied,
    /// It may have, or may yet.
    Unknown,
    /// The fresh tokens stand.
    Ended,
    /// Nobody knows whether they stand.
    EndFailed,
}

impl<T: Copy> Writer<T> {
    /// The state after an event. What cannot happen in a state changes nothing.
    ///
    /// - A commit that changed nothing ends as one that did, so that the key can be kept again.
    /// - After one of unknown outcome the mark stays: it may yet take effect, and a token set now
    ///   would let values from before it in.
    #[must_use]
    pub fn after(self, event: WriteEvent<T>, strict: bool) -> Self {
        use WriteEvent as E;
        match (self, event) {
            (Self::Begin, E::Began(mark)) => Self::Commit(Some(mark)),
            (Self::Begin, E::BeginFailed) if strict => Self::Done(Verdict::Refused),
            (Self::Begin, E::BeginFailed) => Self::Commit(None),
            (Self::Commit(mark), E::Applied) => Self::End(mark),
            (Self::Commit(Some(mark)), E::NotApplied) => Self::End(Some(mark)),
            (Self::Commit(None), E::NotApplied) | (Self::End(_), E::Ended) => {
                Self::Done(Verdict::Clean)
            }
            (Self::Commit(Some(_)), E::Unknown)
            | (Self::End(Some(_)), E::EndFailed)
            | (Self::Remark, E::Began(_)) => Self::Done(Verdict::Marked),
            (Self::Commit(None), E::Unknown) => Self::Remark,
            (Self::End(None), E::EndFailed) | (Self::Remark, E::BeginFailed) => {
                Self::Done(Verdict::Unconfirmed)
            }
            (state, _) => state,
        }
    }
}
