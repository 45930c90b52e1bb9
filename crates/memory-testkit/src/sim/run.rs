//! One run: processes that crash, close and begin anew, the calm after the storm, and the end.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use memory_core::traits::{
    ChangeLog, KeywordIndex, LeaseStore, RecordStore, StoreMeta, VectorIndex,
};
use memory_core::{Error, ErrorKind, Filter, Order, Query, Result};
use tokio::runtime::{Builder, Handle};
use tokio::time::sleep;

use super::check;
use super::clock::{SimClock, SimIds};
use super::faults::FaultKind;
use super::history::{History, id_number};
use super::link::Link;
use super::report::Report;
use super::server::{Flaw, Server, request_of, room_context};
use super::stack::{Built, Held, Parts, Stack, Surroundings};
use super::weather::LONGEST_DELAY;
use super::worker::{DropAfter, Kept, Notebook, Worker, World};
use crate::generators::Generator;

/// The longest that a run may take of its own time; what takes longer hangs.
const LONGEST_RUN: Duration = Duration::from_secs(600);
/// How long a drained network and an idle stack may take to come to rest.
const REST: Duration = Duration::from_secs(40);

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RunSettings {
    /// Steps of each worker, one or two calls each. Default 30.
    pub steps: usize,
    /// A planted fault of the server; `None` in an honest run.
    pub flaw: Option<Flaw>,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self { steps: 30, flaw: None }
    }
}

impl RunSettings {
    /// Plants a fault in the server.
    #[must_use]
    pub fn with_flaw(mut self, flaw: Option<Flaw>) -> Self {
        self.flaw = flaw;
        self
    }
}

/// Runs the simulation of a seed on a runtime of its own, in this thread, and judges it.
#[must_use]
pub fn run(seed: u64, settings: RunSettings, stack: &Arc<dyn Stack>) -> Report {
    let history = Arc::new(History::default());
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let ended = match runtime {
        Ok(runtime) => {
            let story = story(seed, settings, Arc::clone(stack), Arc::clone(&history));
            runtime.block_on(async {
                let limit = tokio::time::timeout(LONGEST_RUN, Box::pin(story));
                limit.await.unwrap_or_else(|_| Err(broken("the run did not come to its end")))
            })
        }
        Err(error) => Err(broken(format!("no runtime: {error}"))),
    };
    let log = history.take();
    match ended {
        Ok(end) => {
            let verdict = end.fault.map_or(Ok(()), Err);
            let verdict = verdict.and_then(|()| check::check(&log, &end.last, &stack.promises()));
            Report::new(seed, log, end.faults, verdict)
        }
        Err(error) => Report::new(seed, log, super::FaultCounts::default(), Err(error.to_string())),
    }
}

/// How the world looks at the end of a run.
struct End {
    faults: super::FaultCounts,
    /// What the store holds, by room: number of the id, revision, request.
    last: check::Contents,
    /// What was wrong with the stack itself.
    fault: Option<String>,
}

fn broken(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unexpected, text)
}

async fn story(
    seed: u64,
    settings: RunSettings,
    stack: Arc<dyn Stack>,
    history: Arc<History>,
) -> Result<End> {
    let mut random = Generator::new(seed);
    let clock = Arc::new(SimClock::new());
    let slots = 2 + random.below(2);
    let crews: Vec<usize> = (0..slots).map(|_| 1 + random.below(4)).collect();
    let names: Vec<_> = (0..crews.iter().sum()).map(Worker::consumer).collect();
    let forked = Generator::new(random.bits());
    let server = Server::new(clock, Arc::clone(&history), settings.flaw, forked, &names).await?;
    let server = Arc::new(server);
    let world = Arc::new(World {
        server: Arc::clone(&server),
        history,
        stack,
        processes: AtomicUsize::new(0),
        requests: AtomicU64::new(0),
        seed: random.bits(),
    });
    let mut number = 0;
    let mut running = Vec::new();
    for crew in crews {
        let notebook = |place: usize| {
            let random = Generator::new(world.seed ^ (place as u64).wrapping_mul(0x9e37_79b9));
            let kept = Kept { steps: settings.steps, pending: Vec::new(), random };
            (place, Arc::new(Mutex::new(kept)))
        };
        let books: Vec<_> = (number..number + crew).map(notebook).collect();
        number += crew;
        let slot = slot(Arc::clone(&world), books, Generator::new(random.bits()));
        running.push(tokio::spawn(slot));
    }
    let mut standing = Vec::new();
    for slot in running {
        standing.push(slot.await.map_err(|_| broken("a client panicked in the storm"))?);
    }
    server.calm();
    let fault = calm(&world, standing).await;
    let last = contents(&server).await?;
    Ok(End { faults: server.counts(), last, fault: fault.err() })
}

/// The stack of one process and its workers.
struct Standing {
    process: usize,
    parts: Parts,
    held: Option<Held>,
    crew: Vec<Worker>,
}

fn begin(world: &Arc<World>, books: &[(usize, Notebook)], random: &mut Generator) -> Standing {
    let process = world.processes.fetch_add(1, Ordering::Relaxed);
    let link = Arc::new(Link::new(Arc::clone(&world.server), process));
    let parts = Parts {
        records: Arc::clone(&link) as Arc<dyn RecordStore>,
        vectors: Arc::clone(&link) as Arc<dyn VectorIndex>,
        keywords: Arc::clone(&link) as Arc<dyn KeywordIndex>,
        changes: Arc::clone(&link) as Arc<dyn ChangeLog>,
        leases: Arc::clone(&link) as Arc<dyn LeaseStore>,
        meta: link as Arc<dyn StoreMeta>,
    };
    let clock = &world.server.clock;
    let around = Surroundings {
        clock: Arc::clone(clock) as Arc<dyn memory_core::Clock>,
        timer: Arc::clone(clock) as Arc<dyn memory_core::Timer>,
        ids: Arc::new(SimIds::new(random.bits())),
    };
    let Built { parts, held } = world.stack.build(parts, &around);
    let closing = Arc::new(AtomicBool::new(false));
    let worker = |(number, kept): &(usize, Notebook)| {
        let bits = kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).random.bits();
        Worker {
            world: Arc::clone(world),
            process,
            number: *number,
            parts: parts.clone(),
            kept: Arc::clone(kept),
            random: Generator::new(bits),
            closing: Arc::clone(&closing),
            known: Default::default(),
            lease: None,
            positions: Default::default(),
            calm: false,
        }
    };
    let crew = books.iter().map(worker).collect();
    Standing { process, parts, held, crew }
}

/// One process after the other in one place, until the work is done.
async fn slot(world: Arc<World>, books: Vec<(usize, Notebook)>, mut random: Generator) -> Standing {
    let note = |text: String| world.history.log().note(world.at(), text);
    for _ in 0..random.below(4) {
        let mut standing = begin(&world, &books, &mut random);
        let process = standing.process;
        let crew = std::mem::take(&mut standing.crew);
        if random.below(3) > 0 {
            let work = Box::pin(join_all(crew.into_iter().map(Worker::work)));
            let polls = 1 + random.below(400);
            let done = DropAfter { polls, future: work }.await;
            drop(standing);
            if done.is_none() {
                world.server.count(FaultKind::Crashed);
                note(format!("p{process} has crashed"));
            }
        } else {
            let closing = crew.first().map(|worker| Arc::clone(&worker.closing));
            let wait = Duration::from_millis(random.below(6_000) as u64);
            let work = join_all(crew.into_iter().map(Worker::work));
            let close = async {
                sleep(wait).await;
                if let Some(closing) = closing {
                    closing.store(true, Ordering::Relaxed);
                }
                note(format!("p{process} closes"));
                close(&world, &standing).await;
            };
            let _ = futures::future::join(work, close).await;
            world.server.count(FaultKind::Closed);
        }
        // It takes a while until it is up again.
        sleep(Duration::from_millis(random.below(500) as u64)).await;
    }
    let mut standing = begin(&world, &books, &mut random);
    let crew = std::mem::take(&mut standing.crew);
    standing.crew = join_all(crew.into_iter().map(Worker::work)).await;
    standing
}

/// Closes a stack and notes when that was done.
async fn close(world: &World, standing: &Standing) {
    let closed = standing.parts.records.close().await;
    let mut log = world.history.log();
    let mark = log.mark(world.at());
    if closed.is_ok() {
        log.closed.insert(standing.process, mark);
    } else {
        log.note(mark.at, format!("p{} could not close", standing.process));
    }
}

/// Waits until a state is reached, or answers why not.
async fn rest(what: &str, mut left: impl FnMut() -> usize) -> Result<(), String> {
    let mut waited = Duration::ZERO;
    while left() > 0 {
        if waited > REST {
            return Err(format!("{} {what} when nothing was under way any more", left()));
        }
        sleep(Duration::from_millis(100)).await;
        waited += Duration::from_millis(100);
    }
    Ok(())
}

/// When all faults have ended: nothing is held, every client gets through, every stack closes, and
/// nothing is left.
async fn calm(world: &Arc<World>, standing: Vec<Standing>) -> Result<(), String> {
    sleep(LONGEST_DELAY).await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    rest("requests on the network", tasks).await?;
    for one in &standing {
        if let Some(held) = &one.held {
            rest("permits or places in a queue held", held).await?;
        }
    }
    let mut proving = Vec::new();
    for mut one in standing {
        let world = Arc::clone(world);
        proving.push(tokio::spawn(async move {
            let crew = one.crew.iter_mut().map(Worker::prove);
            let proved = join_all(crew).await;
            close(&world, &one).await;
            for worker in &mut one.crew {
                worker.knock().await;
            }
            proved.into_iter().collect::<Result<Vec<()>>>().map(|_| ())
        }));
    }
    for proof in proving {
        let proved = proof.await.map_err(|_| "a client panicked in the calm".to_owned())?;
        proved.map_err(|error| format!("a client did not get through in the calm: {error}"))?;
    }
    rest("tasks left", tasks).await
}

/// What the store itself holds.
async fn contents(server: &Server) -> Result<check::Contents> {
    let mut contents = check::Contents::default();
    for (room, held) in contents.iter_mut().enumerate() {
        let query = Query::new(100).with_order(Order::BY_ID).with_filter(Filter::All);
        for item in server.store.query(&room_context(room), &query).await?.items {
            let revision = item.revision.as_ref().and_then(|one| one.as_str().parse().ok());
            if let (Some(id), Some(revision)) = (id_number(&item.id), revision) {
                held.push((id, revision, request_of(&item)));
            }
        }
    }
    Ok(contents)
}
