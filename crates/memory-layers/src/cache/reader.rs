//! Reads through the cache: the steps of [`Reader`], for all keys of a call at once.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{CacheFill, CacheKey, CacheRead, CacheToken, CacheWrite};
use memory_core::{CallContext, Error, ErrorKind, Result, Timestamp};
use tokio::sync::watch;

use super::counts::{Counts, Of, ValueKind};
use super::door::{CACHE, Door, NO_MARK};
use super::flights::{Flights, Landing, Lead, Role};
use super::keys::address;
use super::protocol::{ReadEvent, Reader};
use super::value::{Value, decode, encode};
use crate::telemetry::{CacheResult, note_cache};

/// What is read: its kind, and what may be said of a value that comes from the cache.
pub(super) trait Wanted: Sync {
    /// What the store gives for a key.
    type Value: Clone + Send + Sync + Debug;
    /// What is kept of it.
    type Kept: Value;

    const KIND: ValueKind;

    /// Reads the store for the keys at these places, in order.
    ///
    /// # Errors
    /// The store's.
    fn load(&self, places: &[usize]) -> impl Future<Output = Result<Vec<Self::Value>>> + Send;

    /// What there is to be kept of a value; `None` for nothing.
    fn kept(value: &Self::Value) -> Option<&Self::Kept>;

    /// The value that was kept for the key at this place: as it is, expired, or another's.
    fn judged(&self, place: usize, kept: Self::Kept, now: Timestamp) -> Judged<Self::Value>;

    /// Most bytes of a value.
    fn most_bytes(&self) -> usize;
}

/// What a value from the cache is worth.
pub(super) enum Judged<V> {
    Good(V),
    Expired,
    Wrong,
}

/// What became of a value from the cache.
enum Opened<V> {
    Good(V),
    /// Older than this process serves. Another's clock may be right, so it stays.
    Old,
    Spoilt,
}

/// One key on its way.
struct Way<'a, V> {
    key: CacheKey,
    address: String,
    state: Reader<CacheToken>,
    answer: Option<V>,
    /// When the store was read for it.
    read_at: Timestamp,
    lead: Option<Lead<'a, V>>,
    join: Option<watch::Receiver<Landing<V>>>,
}

/// A call's reads through the cache.
pub(super) struct Through<'a, W: Wanted> {
    pub(super) door: &'a Door,
    pub(super) flights: &'a Flights<W::Value>,
    pub(super) context: &'a CallContext,
    pub(super) wanted: &'a W,
}

impl<'a, W: Wanted> Through<'a, W> {
    fn counts(&self) -> &'a Counts {
        &self.door.counts
    }

    /// The values of distinct keys, in order.
    ///
    /// # Errors
    /// Those of the store, and `Timeout` at the call's deadline.
    ///
    /// # Cancellation
    /// Dropping the future drops the reads under way, and lets those who wait for them go on.
    pub(super) async fn read(&self, keys: Vec<CacheKey>) -> Result<Vec<W::Value>> {
        let mut ways = self.ask(keys).await;
        while ways.iter().any(|way| way.state != Reader::Done) {
            self.gather(&mut ways);
            self.load(&mut ways).await?;
            self.fill(&mut ways).await;
            self.wait(&mut ways).await?;
        }
        // Each has an answer when it is done.
        Ok(ways.into_iter().filter_map(|way| way.answer).collect())
    }

    async fn ask(&self, keys: Vec<CacheKey>) -> Vec<Way<'a, W::Value>> {
        let counts = self.counts();
        let read_at = self.door.clock.now();
        let answers = self.door.read(self.context, &keys).await;
        let is_answered = answers.is_some();
        let answers = answers.unwrap_or_default().into_iter().map(Some);
        let answers = answers.chain(std::iter::repeat_with(|| None));
        let (mut hits, mut misses, mut flights) = (0, 0, 0);
        let mut ways = Vec::with_capacity(keys.len());
        let mut spoilt = Vec::new();
        for (place, (key, answer)) in keys.into_iter().zip(answers).enumerate() {
            let address = address(&self.context.tenant, &key);
            let mut found = None;
            let event = match answer {
                None => ReadEvent::Failed,
                Some(CacheRead::InFlight) => {
                    flights += 1;
                    ReadEvent::InFlight
                }
                Some(CacheRead::Miss(token)) => {
                    misses += 1;
                    ReadEvent::Missed(token)
                }
                Some(CacheRead::Hit(bytes)) => {
                    counts.note(W::KIND, Of::bytes_read, bytes.len());
                    match self.open(place, &bytes, &address) {
                        Opened::Good(value) => {
                            hits += 1;
                            found = Some(value);
                            ReadEvent::Served
                        }
                        Opened::Old => {
                            misses += 1;
                            ReadEvent::Spoilt
                        }
                        Opened::Spoilt => {
                            misses += 1;
                            spoilt.push(key.group.clone());
                            ReadEvent::Spoilt
                        }
                    }
                }
            };
            let state = Reader::Ask.after(event);
            let answer = found;
            ways.push(Way { key, address, state, answer, read_at, lead: None, join: None });
        }
        let bypasses = if is_answered { 0 } else { ways.len() };
        for (of, amount) in [
            (Of::hits, hits),
            (Of::misses, misses),
            (Of::in_flight, flights),
            (Of::bypasses, bypasses),
        ] {
            counts.note(W::KIND, of, amount);
        }
        note_cache(match (is_answered, hits == ways.len()) {
            (false, _) => CacheResult::Bypass,
            (true, true) => CacheResult::Hit,
            (true, false) => CacheResult::Miss,
        });
        self.remove(spoilt).await;
        ways
    }

    /// The value in bytes from the cache, if it can be served now.
    fn open(&self, place: usize, bytes: &[u8], address: &str) -> Opened<W::Value> {
        let counts = self.counts();
        let Some((kept, read_at)) = decode::<W::Kept>(bytes, address) else {
            counts.note(W::KIND, Of::undecodable, 1);
            return Opened::Spoilt;
        };
        let now = self.door.clock.now();
        let age = u64::try_from(now.as_micros().saturating_sub(read_at.as_micros())).unwrap_or(0);
        let age = Duration::from_micros(age);
        if age > self.door.settings.max_stale() {
            counts.note(W::KIND, Of::expired, 1);
            return Opened::Old;
        }
        match self.wanted.judged(place, kept, now) {
            Judged::Good(value) => {
                counts.age(W::KIND, age);
                Opened::Good(value)
            }
            Judged::Expired => {
                counts.note(W::KIND, Of::expired, 1);
                Opened::Spoilt
            }
            Judged::Wrong => {
                counts.note(W::KIND, Of::undecodable, 1);
                Opened::Spoilt
            }
        }
    }

    /// Removes groups with values that cannot be served, so that the next reader can fill them. A
    /// fresh token is always safe.
    async fn remove(&self, groups: Vec<String>) {
        if !groups.is_empty() {
            let write = CacheWrite { groups, mark: NO_MARK };
            self.door.end_write(self.context, write).await;
        }
    }

    /// Each that missed leads a flight or joins one.
    fn gather(&self, ways: &mut [Way<'a, W::Value>]) {
        for way in ways {
            let Reader::Gather(token) = way.state else { continue };
            let event = match self.flights.enter(&way.address, token) {
                Role::Lead(lead) => {
                    way.lead = Some(lead);
                    ReadEvent::Leads
                }
                Role::Join(landing) => {
                    self.counts().note(W::KIND, Of::joined, 1);
                    way.join = Some(landing);
                    ReadEvent::Joined
                }
            };
            way.state = way.state.after(event);
        }
    }

    /// One read of the store, for all that need it.
    async fn load(&self, ways: &mut [Way<'a, W::Value>]) -> Result<()> {
        let loads = |way: &Way<'_, W::Value>| matches!(way.state, Reader::Load(_));
        let places: Vec<_> =
            ways.iter().enumerate().filter(|(_, way)| loads(way)).map(|it| it.0).collect();
        if places.is_empty() {
            return Ok(());
        }
        let read_at = self.door.clock.now();
        let read = self.wanted.load(&places).await;
        let read = read.and_then(|values| {
            if values.len() == places.len() {
                return Ok(values);
            }
            let text = "the store gave more or fewer answers than were asked for";
            Err(Error::new(ErrorKind::Corrupt, text).with_backend(CACHE))
        });
        let crash = |way: &Way<'_, W::Value>| {
            way.lead.iter().for_each(|lead| lead.land(Landing::Crashed));
        };
        let values = read.inspect_err(|_| ways.iter().for_each(crash))?;
        for (place, value) in places.into_iter().zip(values) {
            let Some(way) = ways.get_mut(place) else { continue };
            if let Some(lead) = &way.lead {
                lead.land(Landing::Value(Arc::new(value.clone())));
            }
            (way.answer, way.read_at) = (Some(value), read_at);
            way.state = way.state.after(ReadEvent::Loaded);
        }
        Ok(())
    }

    /// Keeps what was read. It is waited for: one round trip beside a read of the store, and nothing
    /// is left under way when the call ends.
    async fn fill(&self, ways: &mut [Way<'a, W::Value>]) {
        let counts = self.counts();
        let mut fills = Vec::new();
        for way in ways.iter_mut() {
            let Reader::Fill(token) = way.state else { continue };
            let kept = way.answer.as_ref().and_then(W::kept);
            let value = kept.map(|kept| encode(kept, &way.address, way.read_at));
            match value {
                Some(value) if value.len() <= self.wanted.most_bytes() => {
                    fills.push(CacheFill { key: way.key.clone(), token, value });
                }
                Some(_) => counts.note(W::KIND, Of::too_large, 1),
                None => {}
            }
        }
        if !fills.is_empty() {
            let sizes: Vec<_> = fills.iter().map(|fill| fill.value.len()).collect();
            if let Some(kept) = self.door.fill(self.context, fills).await {
                let all = kept.len();
                let sizes = sizes.into_iter().zip(kept).filter(|(_, is_kept)| *is_kept);
                let (count, bytes) = sizes.fold((0, 0), |sum, it| (sum.0 + 1, sum.1 + it.0));
                counts.note(W::KIND, Of::fills, count);
                counts.note(W::KIND, Of::fills_refused, all - count);
                counts.note(W::KIND, Of::bytes_written, bytes);
            }
        }
        for way in ways {
            if matches!(way.state, Reader::Fill(_)) {
                way.state = way.state.after(ReadEvent::Filled);
            }
            // Those who come from here on find it in the cache.
            way.lead = None;
        }
    }

    /// Waits for what others read.
    async fn wait(&self, ways: &mut [Way<'a, W::Value>]) -> Result<()> {
        for way in ways {
            let (Reader::Wait(_), Some(mut landing)) = (way.state, way.join.take()) else {
                continue;
            };
            let landed = async {
                match landing.wait_for(|it| !matches!(it, Landing::Pending)).await {
                    Ok(landing) => match &*landing {
                        Landing::Value(value) => (ReadEvent::Landed, Some(Arc::clone(value))),
                        Landing::Pending | Landing::Crashed => (ReadEvent::Crashed, None),
                    },
                    Err(_) => (ReadEvent::Abandoned, None),
                }
            };
            let now = self.door.clock.monotonic();
            let (event, value) = match self.context.deadline {
                None => landed.await,
                Some(deadline) => {
                    let left = deadline.remaining(now);
                    self.door.in_time(left, landed).await.ok_or_else(|| {
                        let text = "no answer came before the deadline: allow more time";
                        Error::new(ErrorKind::Timeout, text).with_backend(CACHE)
                    })?
                }
            };
            if let Some(value) = value {
                way.answer = Some(Arc::unwrap_or_clone(value));
            }
            way.state = way.state.after(event);
        }
        Ok(())
    }
}
