//! The cache on Redis beside the protocol's own machine: the same answers, whatever the order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{
    Cache as _, CacheFill, CacheKey, CacheRead, CacheToken, CacheWrite, NoLedger,
};
use memory_core::{CallContext, SystemClock, TenantId};
use memory_layers::cache_protocol::{Groups, Seen};
use memory_testkit::generators::Generator;
use orchestra_memory::memory_redis::{RedisCache, RedisParts, RedisSettings};

use crate::seed;
use crate::server::{PATIENCE, Server, now};

const STEPS: usize = 6_000;
const LIFE: Duration = Duration::from_mins(10);
/// Of the machine; nothing ends by time but what is given none.
const NOW: Duration = Duration::from_secs(1);
const GROUPS: [&str; 5] = ["a", "b", "c", "wide", "other"];
/// Tokens and writes that are remembered.
const REMEMBERED: usize = 24;

/// Of the machine: its tokens are numbers.
type Machine = Groups<String, u64, Vec<u8>>;

/// Which token of the server is which of the machine: one for one.
#[derive(Default)]
struct Same {
    real: BTreeMap<u64, [u8; 16]>,
    of: BTreeMap<[u8; 16], u64>,
}

impl Same {
    fn check(&mut self, number: u64, real: [u8; 16], what: &str) {
        let known = *self.real.entry(number).or_insert(real);
        let of = *self.of.entry(real).or_insert(number);
        assert!(known == real && of == number, "{what}: another token than the machine's");
    }
}

struct Pair {
    server: Server,
    cache: Arc<RedisCache>,
    context: CallContext,
    machine: Machine,
    same: Same,
    numbers: u64,
    random: Generator,
    seen: Vec<(CacheKey, (u64, u64), CacheToken)>,
    writes: Vec<(CacheWrite, u64)>,
    met: BTreeMap<&'static str, u64>,
}

impl Pair {
    fn fresh(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn met(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    fn key(&mut self) -> CacheKey {
        let group = (*self.random.pick(&GROUPS[..4])).to_owned();
        let under = (*self.random.pick(&GROUPS[3..])).to_owned();
        let entry = (*self.random.pick(&["x", "y"])).to_owned();
        CacheKey { group, under, entry }
    }

    async fn read(&mut self, what: &str) {
        let keys: Vec<_> = (0..=self.random.below(3)).map(|_| self.key()).collect();
        // What has no time is gone at once: between two keys as after the call.
        let life =
            if keys.len() == 1 && self.random.below(10) == 0 { Duration::ZERO } else { LIFE };
        let reads = self.cache.read(&self.context, &keys, life).await.unwrap();
        assert_eq!(reads.len(), keys.len());
        for (key, read) in keys.into_iter().zip(reads) {
            let numbers = &mut self.numbers;
            let fresh = || {
                *numbers += 1;
                *numbers
            };
            let place = (&key.group, &key.under, &key.entry);
            match (self.machine.read(place, life, NOW, fresh), read) {
                (Seen::Hit(value), CacheRead::Hit(found)) => {
                    assert_eq!(value, found, "{what}: {key:?}");
                    self.met("hit");
                }
                (Seen::Miss(group, under), CacheRead::Miss(token)) => {
                    self.same.check(group, token.group, what);
                    self.same.check(under, token.under, what);
                    if self.seen.len() == REMEMBERED {
                        let place = self.random.below(REMEMBERED);
                        self.seen.swap_remove(place);
                    }
                    self.seen.push((key, (group, under), token));
                    self.met("miss");
                }
                (Seen::InFlight, CacheRead::InFlight) => self.met("in flight"),
                (machine, redis) => panic!("{what}: {machine:?} and {redis:?} of {key:?}"),
            }
        }
    }

    async fn fill(&mut self, what: &str) {
        let mut fills = Vec::new();
        let mut expected = Vec::new();
        for _ in 0..=self.random.below(2) {
            if self.seen.is_empty() {
                return;
            }
            // Mostly what was seen last, which still has a chance.
            let last = self.seen.len() - 1;
            let place = if self.random.below(3) > 0 { last } else { self.random.below(last + 1) };
            let (key, numbers, token) = self.seen[place].clone();
            let length = self.random.below(40);
            let value: Vec<u8> = (0..length).map(|_| self.random.bits().to_le_bytes()[0]).collect();
            let place = (&key.group, &key.under, key.entry.clone());
            expected.push(self.machine.fill(place, numbers, value.clone(), NOW));
            fills.push(CacheFill { key, token, value });
        }
        let kept = self.cache.fill(&self.context, fills).await.unwrap();
        assert_eq!(kept, expected, "{what}");
        for kept in kept {
            self.met(if kept { "kept" } else { "refused" });
        }
    }

    fn groups(&mut self) -> Vec<String> {
        let chosen = (1 + self.random.below(31)) & (1 + self.random.below(31));
        let names = GROUPS.iter().enumerate().filter(|(place, _)| chosen & (1 << place) != 0);
        names.map(|(_, name)| (*name).to_owned()).collect()
    }

    async fn begin(&mut self, what: &str) {
        let groups = self.groups();
        let write = self.cache.begin_write(&self.context, groups.clone(), LIFE).await.unwrap();
        let mark = self.fresh();
        self.same.check(mark, write.mark, what);
        for group in &groups {
            self.machine.begin(group, mark, LIFE, NOW);
        }
        // One that is forgotten is a writer that crashed.
        self.writes.truncate(REMEMBERED / 8);
        self.writes.push((write, mark));
        self.met("begun");
    }

    async fn end(&mut self, what: &str) {
        let (write, mark) = if self.random.below(8) == 0 || self.writes.is_empty() {
            // A writer that could not put its mark.
            let groups = self.groups();
            self.same.check(0, [0; 16], what);
            (CacheWrite { groups, mark: [0; 16] }, 0)
        } else {
            let place = self.random.below(self.writes.len());
            // Mostly each ends once.
            if self.random.below(8) == 0 {
                self.writes[place].clone()
            } else {
                self.writes.swap_remove(place)
            }
        };
        let life = if self.random.below(10) == 0 { Duration::ZERO } else { LIFE };
        self.cache.end_write(&self.context, write.clone(), life).await.unwrap();
        for group in &write.groups {
            let fresh = self.fresh();
            self.machine.end(group, mark, fresh, life, NOW);
        }
        self.met("ended");
    }

    fn evict(&mut self) {
        let group = *self.random.pick(&GROUPS);
        self.server.say(&format!("DEL om:{{t}}:c:{group}")).unwrap();
        self.machine.evict(&group.to_owned());
        self.met("evicted");
    }

    async fn lose_all(&mut self, kill: bool) {
        if kill {
            self.server.kill();
            self.server.restart();
            let other = CallContext::new(TenantId::new("probe").unwrap());
            let began = now();
            let key = self.key();
            while self.cache.read(&other, std::slice::from_ref(&key), LIFE).await.is_err() {
                assert!(began.elapsed() < PATIENCE, "no connection");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.met("killed");
        } else {
            self.server.flush();
            self.met("flushed");
        }
        self.machine = Machine::default();
    }
}

#[tokio::test]
async fn redis_answers_as_the_protocol_says() {
    let Some(server) = Server::new() else { return };
    let seed = seed();
    let settings: RedisSettings = serde_json::from_value(serde_json::json!({
        "url": server.url(), "prefix": "om", "reconnect_pause_ms": 50,
    }))
    .unwrap();
    let parts = RedisParts::new(Arc::new(SystemClock::new()), Arc::new(NoLedger));
    let cache = RedisCache::open(settings, parts).await.unwrap();
    let mut pair = Pair {
        server,
        cache,
        context: CallContext::new(TenantId::new("t").unwrap()),
        machine: Machine::default(),
        same: Same::default(),
        numbers: 0,
        random: Generator::new(seed),
        seen: Vec::new(),
        writes: Vec::new(),
        met: BTreeMap::new(),
    };
    for step in 0..STEPS {
        let what = format!("step {step}, seed {seed}");
        match pair.random.below(100) {
            0..45 => pair.read(&what).await,
            45..70 => pair.fill(&what).await,
            70..78 => pair.begin(&what).await,
            78..96 => pair.end(&what).await,
            96..98 => pair.evict(),
            98 => pair.lose_all(false).await,
            _ => {
                let kill = pair.random.below(10) == 0;
                pair.lose_all(kill).await;
            }
        }
    }
    println!("protocol: {STEPS} steps, seed {seed}: {:?}", pair.met);
    for what in ["hit", "miss", "in flight", "kept", "refused", "begun", "ended", "evicted"] {
        assert!(pair.met.get(what).is_some_and(|times| *times > 20), "{what}: {:?}", pair.met);
    }
}
