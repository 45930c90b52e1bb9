//! One connection through the proxy, from its acceptance to its end.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::inspect::{Inspector, Passed};
use super::plan::{Cut, Direction, Ending, share};
use super::{Current, Shared};

/// The bytes of one read.
const READ: usize = 16 * 1024;

/// The reads that may be under way in one direction: with [`READ`], 1 MiB.
const UNDER_WAY: usize = 64;

/// A throttled direction sends so many pieces in a second.
const PIECES_PER_SECOND: u64 = 20;

/// How long the upstream server may take to accept.
const CONNECT: Duration = Duration::from_secs(10);

/// Why a connection ends before both sides have said that they are done.
enum End {
    /// A fault of the plan.
    Cut(Ending),
    /// It has become a black hole.
    Hole,
    /// A side has failed by itself.
    Broken,
}

/// What goes through the queue of a direction.
enum Item {
    /// Bytes of the read of that number, at that time.
    Bytes(Vec<u8>, u64, Instant),
    /// The connection is cut so, behind what came before, for what was in that read.
    Cut(Ending, u64, Instant),
    /// The sender is done.
    Done,
}

/// A connection in the count of the open ones.
struct Counted<'a>(&'a Shared);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.counters.open.fetch_sub(1, Relaxed);
    }
}

/// What the parts of a connection share.
struct Link<'a> {
    number: u64,
    shared: &'a Shared,
    inspector: Mutex<Inspector>,
}

/// Serves the connection of that number.
pub(super) async fn serve(shared: Arc<Shared>, mut client: TcpStream, number: u64) {
    shared.counters.open.fetch_add(1, Relaxed);
    let _counted = Counted(&shared);
    let current = shared.plan.borrow().clone();
    if current.plan.resets(shared.seed, number) {
        shared.counters.cuts.fetch_add(1, Relaxed);
        reset(&client);
        return;
    }
    if current.plan.swallows(shared.seed, number) {
        swallow(&shared, number, client, None).await;
        return;
    }
    let connected = timeout(CONNECT, TcpStream::connect(shared.upstream)).await;
    let Ok(Ok(mut server)) = connected else {
        shared.counters.unreachable.fetch_add(1, Relaxed);
        reset(&client);
        return;
    };
    // Small writes are to pass when they are made. A failure only makes them late.
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let inspector = Mutex::new(Inspector::new(shared.protocol));
    let link = Link { number, shared: &shared, inspector };
    match link.run(&mut client, &mut server).await {
        // Both sides have been told already.
        Ok(()) => {}
        Err(End::Broken) => {
            reset(&client);
            reset(&server);
        }
        Err(End::Cut(ending)) => {
            shared.counters.cuts.fetch_add(1, Relaxed);
            match ending {
                Ending::Reset => {
                    reset(&client);
                    reset(&server);
                }
                Ending::Close => {
                    // A side that is gone already needs no end.
                    let _ = client.shutdown().await;
                    let _ = server.shutdown().await;
                }
            }
        }
        Err(End::Hole) => swallow(&shared, number, client, Some(server)).await,
    }
}

/// Makes the socket end with RST when it is dropped.
fn reset(stream: &TcpStream) {
    // Where that fails, it ends with FIN, which no test can rely on not to happen.
    let _ = stream.set_zero_linger();
}

/// Reads and drops what the client sends, until it has enough or the hole ends.
async fn swallow(shared: &Shared, number: u64, mut client: TcpStream, server: Option<TcpStream>) {
    let mut plan = shared.plan.subscribe();
    let mut buffer = vec![0; READ];
    loop {
        if !plan.borrow_and_update().plan.swallows(shared.seed, number) {
            reset(&client);
            if let Some(server) = &server {
                reset(server);
            }
            return;
        }
        tokio::select! {
            read = client.read(&mut buffer) => match read {
                Ok(count) if count > 0 => {
                    shared.counters.swallowed.fetch_add(count as u64, Relaxed);
                }
                _ => return,
            },
            changed = plan.changed() => if changed.is_err() { return },
        }
    }
}

impl Link<'_> {
    /// Passes bytes both ways until both sides are done.
    async fn run(&self, client: &mut TcpStream, server: &mut TcpStream) -> Result<(), End> {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let (requests, requested) = mpsc::channel(UNDER_WAY);
        let (answers, answered) = mpsc::channel(UNDER_WAY);
        let pass = async {
            tokio::try_join!(
                self.read(Direction::ToServer, from_client, requests),
                self.write(Direction::ToServer, requested, to_server),
                self.read(Direction::ToClient, from_server, answers),
                self.write(Direction::ToClient, answered, to_client),
            )
        };
        tokio::select! {
            passed = pass => passed.map(|_| ()),
            end = self.turns_into_a_hole() => Err(end),
        }
    }

    async fn turns_into_a_hole(&self) -> End {
        let mut plan = self.shared.plan.subscribe();
        loop {
            if plan.borrow_and_update().plan.swallows(self.shared.seed, self.number) {
                return End::Hole;
            }
            if plan.changed().await.is_err() {
                return End::Broken;
            }
        }
    }

    /// Reads what one side sends, and queues what of it passes.
    async fn read(
        &self,
        direction: Direction,
        mut from: ReadHalf<'_>,
        queue: mpsc::Sender<Item>,
    ) -> Result<(), End> {
        let mut buffer = vec![0; READ];
        // A queue whose writer is gone belongs to a connection that has ended.
        let send = async |item| queue.send(item).await.map_err(|_| End::Broken);
        for number in 0.. {
            let count = from.read(&mut buffer).await.map_err(|_| End::Broken)?;
            let now = Instant::now();
            let passed = self.inspect(direction, &buffer[..count]);
            if !passed.bytes.is_empty() {
                send(Item::Bytes(passed.bytes, number, now)).await?;
            }
            if passed.cut.is_some() {
                let ending = self.shared.plan.borrow().plan.ending;
                send(Item::Cut(ending, number, now)).await?;
                break;
            }
            if count == 0 {
                send(Item::Done).await?;
                break;
            }
        }
        Ok(())
    }

    /// What passes of some bytes, or of what was held back at their end.
    fn inspect(&self, direction: Direction, bytes: &[u8]) -> Passed {
        let mut inspector = self.inspector.lock().unwrap_or_else(PoisonError::into_inner);
        match direction {
            Direction::ToServer if bytes.is_empty() => {
                Passed { bytes: inspector.end_of_client(), cut: None }
            }
            Direction::ToClient if bytes.is_empty() => {
                Passed { bytes: inspector.end_of_server(), cut: None }
            }
            Direction::ToServer => inspector.client_sends(bytes, |request| self.strike(request)),
            Direction::ToClient => inspector.server_sends(bytes),
        }
    }

    /// What happens to the request of that number.
    fn strike(&self, request: u64) -> Option<Cut> {
        let shared = self.shared;
        shared.counters.requests.fetch_add(1, Relaxed);
        let current = shared.plan.borrow().clone();
        let cut = current
            .takes_next()
            .or_else(|| current.plan.strikes(shared.seed, self.number, request));
        if let Some(cut) = cut {
            shared.record(self.number, request, cut);
        }
        cut
    }

    /// Writes what was queued, as late and as slowly as the plan says.
    async fn write(
        &self,
        direction: Direction,
        mut queue: mpsc::Receiver<Item>,
        mut to: WriteHalf<'_>,
    ) -> Result<(), End> {
        let mut plan = self.shared.plan.subscribe();
        let (mut version, mut passed) = (0, 0);
        while let Some(item) = queue.recv().await {
            let bytes = match item {
                Item::Bytes(bytes, number, read) => {
                    self.hold_back(direction, &mut plan, number, read).await;
                    bytes
                }
                Item::Cut(ending, number, read) => {
                    self.hold_back(direction, &mut plan, number, read).await;
                    return Err(End::Cut(ending));
                }
                Item::Done => return to.shutdown().await.map_err(|_| End::Broken),
            };
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let current = plan.borrow_and_update().clone();
                let way = *current.plan.on(direction);
                if version != current.version {
                    (version, passed) = (current.version, 0);
                }
                let left = way.cut_after.map_or(u64::MAX, |limit| limit.saturating_sub(passed));
                if left == 0 {
                    return Err(End::Cut(current.plan.ending));
                }
                let rate = way.bytes_per_second.map_or(u64::MAX, std::num::NonZero::get);
                let most = left.min((rate / PIECES_PER_SECOND).max(1));
                let most = usize::try_from(most).unwrap_or(usize::MAX).min(rest.len());
                let (piece, others) = rest.split_at(most);
                to.write_all(piece).await.map_err(|_| End::Broken)?;
                let count = piece.len() as u64;
                passed += count;
                self.shared.counters.bytes(direction).fetch_add(count, Relaxed);
                rest = others;
                if count == left {
                    return Err(End::Cut(current.plan.ending));
                }
                if way.bytes_per_second.is_some() {
                    let pause = Duration::from_micros(count.saturating_mul(1_000_000) / rate);
                    tokio::select! {
                        () = sleep(pause) => {}
                        _ = plan.changed() => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until a read is due; a new plan holds for what is held back already.
    async fn hold_back(
        &self,
        direction: Direction,
        plan: &mut watch::Receiver<Arc<Current>>,
        number: u64,
        read: Instant,
    ) {
        let share = share(self.shared.seed, direction, self.number, number);
        loop {
            let way = *plan.borrow_and_update().plan.on(direction);
            let wait = way.delay + way.jitter.mul_f32(share);
            if wait.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep_until(read + wait) => return,
                _ = plan.changed() => {}
            }
        }
    }
}
