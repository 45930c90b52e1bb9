//! The store on Cloud Firestore beside the bare crate `firestore`, on an emulator.
//!
//! Both keep documents of the same contents in collections of the same size, read the same fields
//! without the vector, filter and order by the same fields, and are given ids. Neither retries. They
//! take turns in pairs, and which of the two goes first changes with each pair; adds go to new
//! collections in each round, so that their growth falls on both, after two adds by each caller that
//! are not counted: the first contact with a tenant is a cost of its own. Both talk to the emulator named by
//! `FIRESTORE_EMULATOR_HOST`, which answers more slowly as collections grow and as it runs: the
//! ratios are what counts.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

#[path = "firestore/bare.rs"]
mod bare;
#[path = "firestore/ours.rs"]
mod ours;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use async_trait::async_trait;
use bare::Bare;
use benches::{Numbers, Times, WORDS, head, ms, row};
use memory_core::Timestamp;
use ours::Ours;
use tokio::task::JoinSet;

/// Memories of the collection that is read.
const MEMORIES: usize = 300;
/// Sessions that they stand in.
const SESSIONS: usize = 3;
/// Memories of a page.
const PAGE: u32 = 20;
/// Neighbours of a search.
const NEIGHBOURS: u32 = 10;
/// Pairs that are timed, unless `--pairs` says otherwise.
const PAIRS: usize = 20;
/// Pairs of each row that are not counted: they open connections, and the emulator, a Java program
/// that has just been started, compiles what both ask of it.
const WARM: usize = 10;
/// Memories of a load.
const LOAD: usize = 2_000;
/// Rounds of loads.
const ROUNDS: usize = 5;
/// Writers at once of a load by the bare crate that has several: as many as ours has requests.
const WRITERS: usize = 4;
/// The environment variable that names the emulator.
const HOST: &str = "FIRESTORE_EMULATOR_HOST";
/// 2025-01-01T00:00:00Z in microseconds.
const BEGIN: i64 = 1_735_689_600_000_000;

/// What a memory is made of.
#[derive(Debug, Clone)]
struct Raw {
    id: String,
    session: String,
    content: String,
    occurred_at: Timestamp,
    vector: Vec<f32>,
}

impl Raw {
    fn new(numbers: &mut Numbers, n: usize) -> Result<Self> {
        Ok(Self {
            id: format!("{:016x}-{n:06}", numbers.next_u64()),
            session: session(n),
            content: numbers.words(WORDS),
            occurred_at: Timestamp::from_micros(BEGIN + i64::try_from(n)? * 1_000_000)?,
            vector: numbers.vector(),
        })
    }

    fn many(seed: u64, count: usize) -> Result<Arc<[Self]>> {
        let mut numbers = Numbers::new(seed);
        (0..count).map(|n| Self::new(&mut numbers, n)).collect()
    }
}

fn session(n: usize) -> String {
    format!("session-{}", n % SESSIONS)
}

/// One of the two, at home in one tenant's collection.
#[async_trait]
trait Contestant: Send + Sync {
    /// The same in a new collection.
    async fn elsewhere(&self, name: &str) -> Result<Arc<dyn Contestant>>;
    /// Reads one memory.
    async fn get(&self, id: &str) -> Result<()>;
    /// Adds one memory with its vector.
    async fn add(&self, raw: &Raw) -> Result<()>;
    /// Reads the newest [`PAGE`] memories of a session.
    async fn page(&self, session: &str) -> Result<()>;
    /// Finds the nearest [`NEIGHBOURS`] and reads them.
    async fn nearest(&self, vector: &[f32]) -> Result<()>;
    /// Adds many memories, by so many writers at once where that can be chosen.
    async fn load(&self, raws: &Arc<[Raw]>, writers: usize) -> Result<()>;
}

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Get,
    Add,
    Page,
    Nearest,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get one memory by its id",
            Self::Add => "add one memory",
            Self::Page => "page: the newest 20 of a session",
            Self::Nearest => "nearest 10, with their records",
        }
    }

    /// How many of them are a round at a concurrency.
    fn calls(self, concurrency: usize) -> usize {
        match (self, concurrency) {
            (Self::Get | Self::Add, 1) => 20,
            (Self::Page | Self::Nearest, 1) => 10,
            (Self::Get, _) => concurrency * 10,
            (Self::Add, _) => concurrency * 4,
            (Self::Page | Self::Nearest, _) => concurrency * 2,
        }
    }

    async fn one(self, contestant: &dyn Contestant, raw: &Raw) -> Result<()> {
        match self {
            Self::Get => contestant.get(&raw.id).await,
            Self::Add => contestant.add(raw).await,
            Self::Page => contestant.page(&raw.session).await,
            Self::Nearest => contestant.nearest(&raw.vector).await,
        }
    }
}

fn main() -> Result<()> {
    let Some(host) = std::env::var(HOST).ok().filter(|host| !host.is_empty()) else {
        bail!("{HOST} is not set; `cargo xtask bench firestore` starts an emulator and sets it");
    };
    let pairs = argument("--pairs").map_or(Ok(PAIRS), |text| text.parse());
    let pairs = pairs.context("--pairs takes a number")?;
    let only = argument("--only");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let project = format!("bench-{}", std::process::id());
        let ours: Arc<dyn Contestant> = Arc::new(Ours::new(&host, &project).await?);
        let bare = Bare::new(&project).await?;
        let theirs: Arc<dyn Contestant> = Arc::new(bare.clone());
        calls(&ours, &theirs, &bare, pairs, only.as_deref()).await?;
        if only.is_none_or(|only| only == "load") {
            loads(&ours, &theirs, &host, &project).await?;
        }
        clear(&host, &project)
    })
}

/// What follows an argument, for a quick look: `--pairs 5`, `--only get`.
fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

async fn calls(
    ours: &Arc<dyn Contestant>,
    theirs: &Arc<dyn Contestant>,
    bare: &Bare,
    pairs: usize,
    only: Option<&str>,
) -> Result<()> {
    let raws = Raw::many(1, MEMORIES)?;
    for contestant in [ours, theirs] {
        contestant.load(&raws, WRITERS).await?;
    }
    bare.check_contents(&raws[0]).await?;
    head(
        &format!(
            "Firestore: {MEMORIES} memories with vectors of 384 dimensions; milliseconds a call; \
             medians of {pairs} pairs"
        ),
        &[
            "what",
            "callers",
            "Orchestra Memory, ms",
            "bare crate, ms",
            "median of the ratios",
            "bound",
            "one round trip, ms",
        ],
    );
    for concurrency in [1, 32] {
        let calls = [Call::Get, Call::Add, Call::Page, Call::Nearest];
        for call in
            calls.into_iter().filter(|call| only.is_none_or(|only| call.name().starts_with(only)))
        {
            let mut pairing = Pairing::default();
            for pair in 0..WARM + pairs {
                let mut places = [Arc::clone(ours), Arc::clone(theirs)];
                let mut given = Arc::clone(&raws);
                let count = call.calls(concurrency);
                if call == Call::Add {
                    let name = format!("add-{concurrency}-{pair}");
                    places = [ours.elsewhere(&name).await?, theirs.elsewhere(&name).await?];
                    let first = 2 * concurrency;
                    let all = Raw::many(100 + u64::try_from(pair)?, first + count)?;
                    for place in &places {
                        round(place, call, &Arc::from(&all[..first]), 0, first, concurrency)
                            .await?;
                    }
                    given = Arc::from(&all[first..]);
                }
                let mut took = [Duration::ZERO; 2];
                for turn in 0..2 {
                    let which = (pair + turn) % 2;
                    let place = &places[which];
                    took[which] =
                        round(place, call, &given, pair * count, count, concurrency).await?;
                }
                if pair >= WARM {
                    pairing.push(took, count)?;
                }
            }
            let trip = trip(bare, &raws[0].id, concurrency, call.calls(concurrency)).await?;
            row(&[
                call.name().into(),
                concurrency.to_string(),
                ms(pairing.median(|pair| pair.0)?),
                ms(pairing.median(|pair| pair.1)?),
                format!("{:.2} x the time", pairing.ratio()?),
                "<= 1.10".into(),
                ms(trip),
            ]);
        }
    }
    Ok(())
}

/// The time of so many calls by so many callers.
async fn round(
    contestant: &Arc<dyn Contestant>,
    call: Call,
    raws: &Arc<[Raw]>,
    first: usize,
    calls: usize,
    callers: usize,
) -> Result<Duration> {
    let contestant = Arc::clone(contestant);
    let raws = Arc::clone(raws);
    by_callers(calls, callers, move |n| {
        let (contestant, raws) = (Arc::clone(&contestant), Arc::clone(&raws));
        // Each round asks for others, in an order that is not that of the ids.
        let at = (first + n).wrapping_mul(7) % raws.len();
        async move {
            let at = if call == Call::Add { n } else { at };
            call.one(&*contestant, &raws[at]).await
        }
    })
    .await
}

/// The time of one trivial request by so many callers: a field of one document.
async fn trip(bare: &Bare, id: &str, callers: usize, calls: usize) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let (bare, id) = (bare.clone(), id.to_owned());
        let took = by_callers(calls, callers, move |_| {
            let (bare, id) = (bare.clone(), id.clone());
            async move { bare.trip(&id).await }
        })
        .await?;
        times.push(took / u32::try_from(calls)?);
    }
    middle(&mut times)
}

/// Runs numbered calls by so many tasks and times the whole.
async fn by_callers<F>(
    calls: usize,
    callers: usize,
    call: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Result<Duration>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let call = Arc::new(call);
    let times = Times::default();
    let begun = times.start();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let call = Arc::clone(&call);
        tasks.spawn(async move {
            for n in (caller..calls).step_by(callers) {
                call(n).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(begun.elapsed())
}

async fn loads(
    ours: &Arc<dyn Contestant>,
    theirs: &Arc<dyn Contestant>,
    host: &str,
    project: &str,
) -> Result<()> {
    let raws = Raw::many(2, LOAD)?;
    let (mut alone, mut beside) = (Pairing::default(), Pairing::default());
    for round in 0..=ROUNDS {
        let mut took = [Duration::ZERO; 3];
        for turn in 0..3 {
            let which = (round + turn) % 3;
            clear(host, project)?;
            let name = format!("load-{round}-{which}");
            let (contestant, writers) = match which {
                0 => (ours.elsewhere(&name).await?, WRITERS),
                1 => (theirs.elsewhere(&name).await?, 1),
                _ => (theirs.elsewhere(&name).await?, WRITERS),
            };
            let times = Times::default();
            let begun = times.start();
            contestant.load(&raws, writers).await?;
            took[which] = begun.elapsed();
        }
        if round > 0 {
            alone.push([took[0], took[1]], 1)?;
            beside.push([took[0], took[2]], 1)?;
        }
    }
    head(
        &format!("Firestore: a load of {LOAD} memories with vectors; medians of {ROUNDS} rounds"),
        &[
            "the bare crate's batches",
            "Orchestra Memory, ms",
            "bare crate, ms",
            "median of the ratios",
            "bound",
        ],
    );
    for (name, pairing) in [("one at a time", alone), ("four at a time, as ours", beside)] {
        row(&[
            name.into(),
            ms(pairing.median(|pair| pair.0)?),
            ms(pairing.median(|pair| pair.1)?),
            format!("{:.2} x the rate", 1.0 / pairing.ratio()?),
            ">= 0.9".into(),
        ]);
    }
    std::io::stdout().flush().context("the table is printed")
}

/// Removes all documents of a project from the emulator.
fn clear(host: &str, project: &str) -> Result<()> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(
        stream,
        "DELETE /emulator/v1/projects/{project}/databases/(default)/documents HTTP/1.1\r\n\
         Host: {host}\r\nAuthorization: Bearer owner\r\nContent-Length: 0\r\n\r\n"
    )?;
    // The emulator leaves the connection open; the first line of the answer is enough.
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    ensure!(line.split(' ').nth(1) == Some("200"), "the emulator does not clear: {line}");
    Ok(())
}

/// Times of pairs: ours and theirs, of one call each.
#[derive(Debug, Default)]
struct Pairing(Vec<(Duration, Duration)>);

impl Pairing {
    fn push(&mut self, took: [Duration; 2], calls: usize) -> Result<()> {
        let calls = u32::try_from(calls)?;
        self.0.push((took[0] / calls, took[1] / calls));
        Ok(())
    }

    fn median(&self, of: impl Fn(&(Duration, Duration)) -> Duration) -> Result<Duration> {
        middle(&mut self.0.iter().map(of).collect::<Vec<_>>())
    }

    /// The median of how much longer ours took than theirs, pair by pair.
    fn ratio(&self) -> Result<f64> {
        let mut ratios: Vec<_> =
            self.0.iter().map(|(ours, theirs)| ours.as_secs_f64() / theirs.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().context("nothing was timed")
    }
}

fn middle(times: &mut [Duration]) -> Result<Duration> {
    times.sort();
    times.get(times.len() / 2).copied().context("nothing was timed")
}
