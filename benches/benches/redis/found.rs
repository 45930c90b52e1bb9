//! Searches: beside the very commands that the store was seen to send, and how many of the nearest
//! they find.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use benches::{DIMENSIONS, QUESTION, head, row};
use memory_core::Projection;
use memory_core::traits::{HitRecords, KeywordIndex as _, RecordStore, VectorIndex, VectorQuery};
use memory_redis::RedisSettings;
use orchestra_memory::{Backend, EmbeddingSettings, Limit, Memory, SearchRequest, Settings};
use redis::Cmd;

use crate::stored::Place;
use crate::{Pairing, World, argument, numbers, ping, requests};

/// Neighbours of a search.
const NEIGHBOURS: u32 = 10;
/// Questions, which take turns.
const QUESTIONS: usize = 50;
/// Searches of a turn.
const CALLS: usize = 20;
/// Searches of a turn among many.
const FEW: usize = 5;
/// Memories, unless `--memories` says otherwise: what is always compared in full, and ten times as
/// many.
const SIZES: [usize; 2] = [10_000, 100_000];

/// A search by vector beside the bare `FT.SEARCH` of the same parameters.
pub(crate) async fn neighbours(world: &World) -> Result<()> {
    let sizes = match argument("--memories") {
        Some(text) => vec![text.parse().context("--memories takes a number")?],
        None => SIZES.to_vec(),
    };
    head(
        &format!(
            "Redis as a store: the nearest {NEIGHBOURS} of vectors of {DIMENSIONS} dimensions \
             around 40 centres; milliseconds a search"
        ),
        &[
            "memories",
            "index",
            "records",
            "round trips",
            "ours, ms",
            "bare FT.SEARCH, ms",
            "median of the ratios",
            "bound",
            "recall@10",
            "bare recall@10",
            "PING, ms",
        ],
    );
    for size in sizes {
        // A graph among few, to see it beside the flat index; among many there is none but a graph.
        for flat_up_to in [10_000, 0] {
            if size > 10_000 && flat_up_to > 0 {
                continue;
            }
            let mut settings = world.settings("search")?;
            settings.vectors.flat_up_to = flat_up_to;
            let place = Place::new(world, settings).await?;
            let vectors = place.load(0..size, true).await?;
            rows(world, &place, &vectors, flat_up_to).await?;
            RecordStore::close(&*place.store).await?;
            world.clear("search").await?;
        }
    }
    Ok(())
}

async fn rows(world: &World, place: &Place, vectors: &[Vec<f32>], flat_up_to: u64) -> Result<()> {
    let mut numbers = numbers(77);
    let questions: Vec<Vec<f32>> = (0..QUESTIONS).map(|_| numbers.vector()).collect();
    let exact: Vec<Vec<usize>> = questions.iter().map(|it| nearest(it, vectors)).collect();
    for with_records in [false, true] {
        let query = |vector: &[f32]| {
            let query = VectorQuery::new(place.space.clone(), vector.to_vec(), NEIGHBOURS);
            let records = HitRecords { first: NEIGHBOURS, projection: Projection::full() };
            query.with_records(with_records.then_some(records))
        };
        let search = async |vector: &[f32]| {
            let found = VectorIndex::search(&*place.store, &place.context, &query(vector)).await?;
            ensure!(found.hits.len() == NEIGHBOURS as usize, "neighbours are missing");
            anyhow::Ok(found)
        };
        // The index may still be made, or made anew as a graph; the store says so.
        let mut left = 900;
        loop {
            match search(&questions[0]).await {
                Ok(found) if found.exact == (flat_up_to > 0) => break,
                Ok(_) => {}
                Err(error) if left == 0 => return Err(error),
                Err(_) => {}
            }
            ensure!(left > 0, "the index is not as it should be after 15 minutes");
            left -= 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let before = requests(&place.book);
        let watched = Watch::start(world)?;
        search(&questions[0]).await?;
        let seen = watched.end(world, &world.prefix("search")).await?;
        let trips = requests(&place.book) - before;
        let [command] = seen.as_slice() else { bail!("a search sends {} FT commands", seen.len()) };
        let wanted = bytes_of(&questions[0]);
        ensure!(command.contains(&wanted), "the vector is not in the command");
        let command = |vector: &[f32]| {
            let mut made = Cmd::new();
            for argument in command {
                if *argument == wanted {
                    made.arg(bytes_of(vector));
                } else {
                    made.arg(argument.as_slice());
                }
            }
            made
        };
        let (mut recall, mut bare_recall) = (0, 0);
        for (question, exact) in questions.iter().zip(&exact) {
            let found = search(question).await?;
            let of = |id: &str| id.rsplit_once("m-").and_then(|(_, n)| n.parse::<usize>().ok());
            let good = |id: &str| of(id).is_some_and(|n| exact.contains(&n));
            recall += found.hits.iter().filter(|hit| good(hit.id.as_str())).count();
            let answer = world.ask(&command(question)).await?;
            let ids = ids(&answer);
            ensure!(ids.len() >= NEIGHBOURS as usize, "the bare search gives {}", ids.len());
            // It gives one more than is wanted, in no order.
            bare_recall += ids.iter().filter(|id| good(id.as_str())).count();
        }
        let calls = if vectors.len() > 10_000 { FEW } else { CALLS };
        let at = |pair: usize, n: usize| &questions[(pair * calls + n) % QUESTIONS];
        let pairing = Pairing::run(
            world.pairs,
            calls,
            async |pair| {
                for n in 0..calls {
                    search(at(pair, n)).await?;
                }
                Ok(())
            },
            async |pair| {
                for n in 0..calls {
                    world.ask(&command(at(pair, n))).await?;
                }
                Ok(())
            },
        )
        .await?;
        let [ours, bare, ratio] = pairing.cells()?;
        let share = |found: usize| {
            let of = u32::try_from(QUESTIONS)? * NEIGHBOURS;
            anyhow::Ok(format!("{:.3}", f64::from(u32::try_from(found)?) / f64::from(of)))
        };
        let settings = RedisSettings::default().vectors;
        row(&[
            vectors.len().to_string(),
            match flat_up_to {
                0 => format!("HNSW, M {}, EF {}", settings.m, settings.ef_runtime),
                _ => "FLAT".into(),
            },
            if with_records { "with" } else { "without" }.into(),
            trips.to_string(),
            ours,
            bare,
            ratio,
            "<= 1.20".into(),
            share(recall)?,
            share(bare_recall)?,
            ping(world).await?,
        ]);
    }
    Ok(())
}

/// A search by text and vector at once, through everything that stands around the store.
pub(crate) async fn hybrid(world: &World) -> Result<()> {
    const MEMORIES: usize = 10_000;
    let place = Place::new(world, world.settings("search")?).await?;
    place.load(0..MEMORIES, true).await?;
    let mut settings = Settings::default();
    settings.embedding = EmbeddingSettings::none();
    let builder = Memory::builder().settings(settings).usage(Arc::clone(&place.book));
    let memory = builder.backend(Backend::of(Arc::clone(&place.store))).open().await?;
    let tenant = memory.tenant(place.context.tenant.as_str())?;
    let mut numbers = numbers(78);
    let (text, vector) = (numbers.words(QUESTION), numbers.vector());
    head(
        &format!(
            "Redis as a store: a search of {MEMORIES} memories, ten hits with their records; \
             milliseconds a search"
        ),
        &[
            "what",
            "requests",
            "ours, ms",
            "its FT commands in one round trip, ms",
            "median of the ratios",
            "PING, ms",
        ],
    );
    for what in ["by vector", "by text", "by both"] {
        let mut request = SearchRequest::new().with_limit(Limit::Count(NEIGHBOURS));
        if what != "by vector" {
            request = request.with_text(text.as_str());
        }
        if what != "by text" {
            request = request.with_vector(place.space.clone(), vector.clone());
        }
        let search = async || {
            let found = tenant.search(&request).await?;
            ensure!(found.hits.len() == NEIGHBOURS as usize, "hits are missing");
            anyhow::Ok(())
        };
        search().await?;
        let before = requests(&place.book);
        let watched = Watch::start(world)?;
        search().await?;
        let seen = watched.end(world, &world.prefix("search")).await?;
        let trips = requests(&place.book) - before;
        let mut pipe = redis::pipe();
        for command in &seen {
            pipe.add_command(Cmd::new()).arg(command);
        }
        let pairing = Pairing::run(
            world.pairs,
            CALLS,
            async |_| {
                for _ in 0..CALLS {
                    search().await?;
                }
                Ok(())
            },
            async |_| {
                for _ in 0..CALLS {
                    let _: redis::Value = pipe.query_async(&mut world.bare.clone()).await?;
                }
                Ok(())
            },
        )
        .await?;
        let [ours, bare, ratio] = pairing.cells()?;
        row(&[what.into(), trips.to_string(), ours, bare, ratio, ping(world).await?]);
    }
    place.store.authors(&place.context, &[]).await.context("it has words")?;
    memory.close().await?;
    world.clear("search").await
}

fn bytes_of(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|component| component.to_le_bytes()).collect()
}

/// The nearest by cosine, exactly.
fn nearest(question: &[f32], vectors: &[Vec<f32>]) -> Vec<usize> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let score = |it: &[f32]| dot(question, it) / dot(it, it).sqrt();
    let mut scored: Vec<(f64, usize)> =
        vectors.iter().enumerate().map(|(n, it)| (score(it), n)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.iter().take(NEIGHBOURS as usize).map(|(_, n)| *n).collect()
}

/// The ids of an answer of the query engine, by RESP3.
fn ids(answer: &redis::Value) -> Vec<String> {
    let text = |value: &redis::Value| match value {
        redis::Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        redis::Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    };
    let get = |value: &redis::Value, name: &str| -> Option<redis::Value> {
        let redis::Value::Map(pairs) = value else { return None };
        pairs.iter().find(|(key, _)| text(key).as_deref() == Some(name)).map(|it| it.1.clone())
    };
    let Some(redis::Value::Array(rows)) = get(answer, "results") else { return Vec::new() };
    rows.iter().filter_map(|row| text(&get(row, "id")?)).collect()
}

/// Looks at what the server is asked, by `MONITOR`.
struct Watch {
    stream: BufReader<TcpStream>,
}

impl Watch {
    fn start(world: &World) -> Result<Self> {
        let url = redis::Client::open(world.server())?;
        let redis::ConnectionAddr::Tcp(host, port) = url.get_connection_info().addr() else {
            bail!("the server is watched over plain TCP");
        };
        let mut stream = TcpStream::connect((host.as_str(), *port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"MONITOR\r\n")?;
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line)?;
        ensure!(line.starts_with("+OK"), "the server cannot be watched: {line}");
        Ok(Self { stream })
    }

    /// The query engine's commands that name something with a prefix.
    async fn end(mut self, world: &World, prefix: &str) -> Result<Vec<Vec<Vec<u8>>>> {
        let end = world.prefix("watched");
        world.ask(redis::cmd("ECHO").arg(&end)).await?;
        let mut seen = Vec::new();
        loop {
            let mut line = Vec::new();
            ensure!(self.stream.read_until(b'\n', &mut line)? > 0, "the watch ended early");
            let arguments = arguments(&line);
            let is =
                |name: &[u8]| arguments.first().is_some_and(|it| it.eq_ignore_ascii_case(name));
            if is(b"ECHO") && arguments.get(1).is_some_and(|it| *it == end.as_bytes()) {
                return Ok(seen);
            }
            let about = |it: &Vec<u8>| it.windows(prefix.len()).any(|at| at == prefix.as_bytes());
            if (is(b"FT.SEARCH") || is(b"FT.AGGREGATE")) && arguments.iter().any(about) {
                seen.push(arguments);
            }
        }
    }
}

/// The arguments of a line of `MONITOR`: texts in quotes, with escapes.
fn arguments(line: &[u8]) -> Vec<Vec<u8>> {
    let (mut all, mut rest) = (Vec::new(), line.iter().copied());
    while rest.by_ref().any(|byte| byte == b'"') {
        let mut argument = Vec::new();
        while let Some(byte) = rest.next() {
            match byte {
                b'"' => break,
                b'\\' => argument.push(match rest.next() {
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b't') => b'\t',
                    Some(b'a') => 7,
                    Some(b'b') => 8,
                    Some(b'x') => {
                        let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                        let digits = std::str::from_utf8(&digits).unwrap_or("00");
                        u8::from_str_radix(digits, 16).unwrap_or(0)
                    }
                    other => other.unwrap_or(b'\\'),
                }),
                byte => argument.push(byte),
            }
        }
        all.push(argument);
    }
    all
}
