//! Faults of bytes and connections, whatever the protocol.

use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::time::Duration;

use memory_testkit::FaultProxy;
use memory_testkit::proxy::{Cut, Direction, Plan};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::servers::Echo;
use super::{quiet, soon, until};

const HOUR: Duration = Duration::from_secs(3_600);

async fn setup() -> (Echo, FaultProxy) {
    let echo = Echo::start().await;
    let proxy = FaultProxy::start(echo.address, 1).await.unwrap();
    (echo, proxy)
}

async fn connect(proxy: &FaultProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends some bytes and reads as many.
async fn echoes(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    soon("an echo", async {
        stream.write_all(bytes).await?;
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back).await?;
        assert_eq!(back, bytes);
        Ok(())
    })
    .await
}

/// Everything that comes until the connection ends, and how it ends.
async fn to_the_end(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut all = Vec::new();
    let end = soon("the end", stream.read_to_end(&mut all)).await;
    (all, end.err().map(|error| error.kind()))
}

#[tokio::test]
async fn without_a_fault_everything_passes_and_is_counted() {
    let (echo, proxy) = setup().await;
    let stream = connect(&proxy).await;
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut reader, mut writer) = stream.into_split();
    let sent = bytes.clone();
    let writing = tokio::spawn(async move {
        writer.write_all(&sent).await.unwrap();
        // One side is done, and the other is heard all the same.
        writer.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    soon("the bytes", reader.read_to_end(&mut back)).await.unwrap();
    writing.await.unwrap();
    assert!(back == bytes);
    until("the connection is closed", || proxy.stats().open == 0).await;
    let stats = proxy.stats();
    assert_eq!((stats.to_server, stats.to_client), (1_000_000, 1_000_000));
    assert_eq!((stats.accepted, stats.cuts, stats.unreachable, stats.swallowed), (1, 0, 0, 0));
    assert_eq!(echo.ended(), 1);
    let mut one = connect(&proxy).await;
    let mut two = connect(&proxy).await;
    echoes(&mut one, b"x").await.unwrap();
    echoes(&mut two, b"x").await.unwrap();
    assert_eq!((proxy.stats().accepted, proxy.stats().open), (3, 2));
}

#[tokio::test]
async fn what_is_delayed_comes_late_and_a_new_plan_frees_it() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (echo, proxy) = setup().await;
        let mut stream = connect(&proxy).await;
        let delay = Duration::from_millis(30);
        proxy.set(Plan::pass().delay(direction, delay));
        let start = Instant::now();
        echoes(&mut stream, b"late").await.unwrap();
        assert!(start.elapsed() >= delay);

        proxy.set(Plan::pass().delay(direction, HOUR));
        stream.write_all(b"later").await.unwrap();
        let mut back = [0; 5];
        assert!(quiet(stream.read_exact(&mut back)).await);
        assert_eq!(echo.received(), if direction == Direction::ToServer { 4 } else { 9 });
        proxy.heal();
        soon("what was held back", stream.read_exact(&mut back)).await.unwrap();
        assert_eq!(&back, b"later");
    }
}

#[tokio::test]
async fn jitter_holds_back_and_keeps_the_order() {
    let (_echo, proxy) = setup().await;
    let mut stream = connect(&proxy).await;
    proxy.set(Plan::pass().jitter(Direction::ToClient, Duration::from_millis(20)));
    let (mut all, mut back) = (Vec::new(), vec![0; 400]);
    for n in 0..100_u8 {
        stream.write_all(&[n; 4]).await.unwrap();
        all.extend([n; 4]);
    }
    soon("the bytes", stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, all);
    proxy.set(Plan::pass().jitter(Direction::ToClient, 1_000 * HOUR));
    stream.write_all(b"x").await.unwrap();
    assert!(quiet(stream.read_u8()).await);
    proxy.heal();
    assert_eq!(soon("the byte", stream.read_u8()).await.unwrap(), b'x');
}

#[tokio::test]
async fn what_is_throttled_takes_its_time_and_a_new_plan_ends_that() {
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (_echo, proxy) = setup().await;
        let mut stream = connect(&proxy).await;
        proxy.set(Plan::pass().throttle(direction, NonZeroU64::new(1_000).unwrap()));
        let start = Instant::now();
        echoes(&mut stream, &[7; 200]).await.unwrap();
        // The pieces of 50 bytes before the last one have been paid for.
        assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());

        proxy.set(Plan::pass().throttle(direction, NonZeroU64::MIN));
        stream.write_all(&[8; 5_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut back = Vec::new();
        assert!(quiet(stream.read_to_end(&mut back)).await);
        proxy.heal();
        soon("what was held back", stream.read_to_end(&mut back)).await.unwrap();
        assert_eq!(back, [8; 5_000]);
    }
}

#[tokio::test]
async fn a_connection_is_cut_after_so_many_bytes_and_no_others() {
    let (echo, proxy) = setup().await;
    let mut old = connect(&proxy).await;
    echoes(&mut old, &[1; 50]).await.unwrap();
    proxy.set(Plan::pass().cut_after(Direction::ToServer, 100));
    // Counted from the plan on.
    echoes(&mut old, &[1; 99]).await.unwrap();
    let _ = old.write_all(&[2; 10]).await;
    let _ = to_the_end(&mut old).await;
    assert_eq!(proxy.stats().cuts, 1);
    until("the server sees the end", || echo.ended() == 1).await;
    assert_eq!(echo.received(), 150);

    proxy.set(Plan::pass().cut_after(Direction::ToClient, 10));
    let mut stream = connect(&proxy).await;
    stream.write_all(&[3; 30]).await.unwrap();
    let (all, _) = to_the_end(&mut stream).await;
    assert_eq!(all, [3; 10]);
    assert_eq!(proxy.stats().to_client, 50 + 99 + 10);

    proxy.set(Plan::pass().cut_after(Direction::ToClient, 0));
    let mut stream = connect(&proxy).await;
    stream.write_all(&[4]).await.unwrap();
    assert_eq!(to_the_end(&mut stream).await.0, b"");
    assert_eq!(proxy.stats().cuts, 3);
    proxy.heal();
    echoes(&mut connect(&proxy).await, &[5; 1_000]).await.unwrap();
    assert_eq!(proxy.stats().cuts, 3);
}

#[tokio::test]
async fn a_cut_closes_and_a_reset_resets() {
    let (echo, proxy) = setup().await;
    let cut = || Plan::pass().cut_next(Cut::BeforeAnswering, 1);
    proxy.set(cut());
    let mut stream = connect(&proxy).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(to_the_end(&mut stream).await, (Vec::new(), None));
    proxy.set(cut().resetting());
    let mut stream = connect(&proxy).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(to_the_end(&mut stream).await, (Vec::new(), Some(ErrorKind::ConnectionReset)));
    until("the server sees both ends", || echo.ended() == 2).await;
    assert_eq!(echo.received(), 2);

    // And before the server has anything.
    proxy.set(Plan::pass().cut_next(Cut::BeforeForwarding, 1));
    let mut stream = connect(&proxy).await;
    stream.write_all(b"x").await.unwrap();
    assert_eq!(to_the_end(&mut stream).await, (Vec::new(), None));
    until("the server sees the end", || echo.ended() == 3).await;
    assert_eq!((echo.received(), proxy.stats().cuts, proxy.stats().requests), (2, 3, 3));
}

#[tokio::test]
async fn a_black_hole_takes_everything_and_gives_nothing_until_it_ends() {
    let (echo, proxy) = setup().await;
    let mut old = connect(&proxy).await;
    echoes(&mut old, b"before").await.unwrap();
    proxy.set(Plan::pass().black_hole());
    let mut new = connect(&proxy).await;
    for stream in [&mut old, &mut new] {
        stream.write_all(&[1; 100]).await.unwrap();
        assert!(quiet(stream.read_u8()).await);
    }
    until("both are swallowed", || proxy.stats().swallowed == 200).await;
    assert_eq!((echo.received(), proxy.stats().open), (6, 2));
    proxy.heal();
    for stream in [&mut old, &mut new] {
        let end = to_the_end(stream).await;
        assert_eq!(end, (Vec::new(), Some(ErrorKind::ConnectionReset)));
    }
    echoes(&mut connect(&proxy).await, b"after").await.unwrap();
    assert_eq!((echo.received(), proxy.stats().swallowed, proxy.stats().cuts), (11, 200, 0));
}

#[tokio::test]
async fn nobody_listens_while_connections_are_refused() {
    let (_echo, proxy) = setup().await;
    let mut old = connect(&proxy).await;
    echoes(&mut old, b"x").await.unwrap();
    for _ in 0..3 {
        proxy.set(Plan::pass().refuse());
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        // No other program gets the port meanwhile.
        let taken = TcpListener::bind(proxy.address()).await.unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        echoes(&mut old, b"an open connection stays").await.unwrap();
        proxy.heal();
        echoes(&mut connect(&proxy).await, b"x").await.unwrap();
    }
    assert_eq!(proxy.stats().accepted, 4);
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Reset,
    Swallowed,
}

#[tokio::test]
async fn new_connections_are_reset_and_swallowed_by_the_seed() {
    let run = async |seed, plan: Plan| {
        let echo = Echo::start().await;
        let proxy = FaultProxy::start(echo.address, seed).await.unwrap();
        proxy.set(plan);
        let mut fates = Vec::new();
        for number in 0..24 {
            let mut stream = connect(&proxy).await;
            let _ = stream.write_all(b"x").await;
            let before = fates.iter().filter(|fate| **fate == Fate::Swallowed).count() as u64;
            let mut byte = [0];
            fates.push(tokio::select! {
                read = soon("a fate", stream.read(&mut byte)) => match read {
                    Ok(1) => Fate::Answered,
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => Fate::Reset,
                    other => panic!("{number}: {other:?}"),
                },
                () = until("a fate", || proxy.stats().swallowed > before) => Fate::Swallowed,
            });
        }
        assert!(proxy.describe().contains(&format!("seed {seed}, ")), "{}", proxy.describe());
        fates
    };
    let plan = || Plan::pass().reset_new(30).black_hole_percent(20);
    let (one, again, other) = (run(5, plan()).await, run(5, plan()).await, run(6, plan()).await);
    assert_eq!(one, again);
    assert_ne!(one, other);
    for fate in [Fate::Answered, Fate::Reset, Fate::Swallowed] {
        assert!(one.contains(&fate), "{fate:?}: {one:?}");
    }
    let all = run(5, Plan::pass().reset_new(100)).await;
    assert!(all.iter().all(|fate| *fate == Fate::Reset), "{all:?}");
    let none = run(5, Plan::pass()).await;
    assert!(none.iter().all(|fate| *fate == Fate::Answered), "{none:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_not_hidden() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let proxy = FaultProxy::start(address, 1).await.unwrap();
    let mut stream = connect(&proxy).await;
    assert_eq!(to_the_end(&mut stream).await.1, Some(ErrorKind::ConnectionReset));
    assert_eq!((proxy.stats().unreachable, proxy.stats().cuts), (1, 0));
}

#[tokio::test]
async fn a_side_that_fails_by_itself_takes_the_other_with_it() {
    let (echo, proxy) = setup().await;
    let mut stream = connect(&proxy).await;
    echoes(&mut stream, b"x").await.unwrap();
    stream.set_zero_linger().unwrap();
    drop(stream);
    until("the server sees the end", || echo.ended() == 1).await;
    until("the connection is closed", || proxy.stats().open == 0).await;
    assert_eq!(proxy.stats().cuts, 0);
}

/// Connections in every state that holds something.
async fn busy(proxy: &FaultProxy) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for plan in [
        Plan::pass(),
        Plan::pass().delay(Direction::ToServer, HOUR),
        Plan::pass().throttle(Direction::ToClient, NonZeroU64::MIN),
        Plan::pass().black_hole(),
    ] {
        proxy.set(plan);
        let mut stream = connect(proxy).await;
        stream.write_all(&[1; 10_000]).await.unwrap();
        streams.push(stream);
    }
    let open = u64::try_from(streams.len()).unwrap();
    until("all are open", || proxy.stats().open == open).await;
    streams
}

#[tokio::test]
async fn nothing_is_left_of_a_proxy_that_is_dropped_or_stopped() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    for stop in [false, true] {
        let echo = Echo::start().await;
        // The echo server's task for accepting.
        let before = tasks();
        let proxy = FaultProxy::start(echo.address, 1).await.unwrap();
        let address = proxy.address();
        let mut streams = busy(&proxy).await;
        assert!(tasks() > before + streams.len(), "tasks of the proxy are counted");
        if stop {
            soon("the stop", proxy.stop()).await;
        } else {
            drop(proxy);
        }
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        for stream in &mut streams {
            let _ = to_the_end(stream).await;
        }
        until("its tasks have ended, and those of the echo server", || tasks() == before).await;
        // The port is free.
        drop(streams);
        until("the port is free", || std::net::TcpListener::bind(address).is_ok()).await;
    }
}
