//! Runs of two processes, one Redis and one store.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use memory_testkit::generators::Generator;
use tempfile::TempDir;

use crate::board::{Board, Count, PROCESSES, Total};
use crate::server::{Server, now};
use crate::worker::{CHILD, TEST, board_of};
use crate::wrong::Wrong;
use crate::{number, seed};

/// Operations where it is not said.
const OPERATIONS: u64 = 6_000;
/// The operations within which what a cache does wrong has to be found.
const WRONG_OPERATIONS: u64 = 60_000;
/// The longest time of an operation, of all on average: a run that stands still ends.
const SLOWEST: Duration = Duration::from_millis(50);

/// What is done to Redis, and to the processes.
#[derive(Debug, Default)]
struct Done {
    flushes: u64,
    kills: u64,
    stops: u64,
    processes_killed: u64,
}

struct Run {
    server: Server,
    folder: TempDir,
    board: Board,
    children: Vec<Child>,
    random: Generator,
    seed: u64,
    wrong: Option<Wrong>,
    phase: u64,
    done: Done,
}

impl Run {
    fn new(seed: u64, wrong: Option<Wrong>) -> Option<Self> {
        let server = Server::new()?;
        let folder = TempDir::new().unwrap();
        let board = Board::new(&board_of(folder.path()));
        let mut run = Self {
            server,
            folder,
            board,
            children: Vec::new(),
            random: Generator::new(seed),
            seed,
            wrong,
            phase: 0,
            done: Done::default(),
        };
        for process in 0..PROCESSES {
            let child = run.child(process);
            run.children.push(child);
        }
        Some(run)
    }

    fn child(&mut self, process: usize) -> Child {
        let seed = self.random.bits();
        let wrong = self.wrong.map_or("none", Wrong::name);
        let folder = self.folder.path();
        let told = format!("{process} {seed} {wrong} {} {}", self.server.url(), folder.display());
        let out = File::options().create(true).append(true).open(log(folder)).unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(CHILD, told)
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .unwrap()
    }

    fn pause(&mut self, most: usize) {
        let pause = 1 + self.random.below(most);
        std::thread::sleep(Duration::from_millis(pause as u64));
    }

    fn away(&mut self) {
        self.phase += 1;
        self.board.set_phase(self.phase);
    }

    /// Does something to Redis or to a process.
    fn disturb(&mut self) {
        match self.random.below(20) {
            0..10 => {
                self.server.flush();
                self.done.flushes += 1;
            }
            10..15 => {
                self.away();
                self.server.kill();
                self.pause(300);
                self.server.restart();
                self.away();
                self.done.kills += 1;
            }
            15..18 => {
                self.away();
                self.server.signal("STOP");
                self.pause(1_200);
                self.server.signal("CONT");
                self.away();
                self.done.stops += 1;
            }
            _ => {
                let process = self.random.below(PROCESSES);
                self.children[process].kill().unwrap();
                self.children[process].wait().unwrap();
                self.children[process] = self.child(process);
                self.done.processes_killed += 1;
            }
        }
    }

    /// Runs until so many operations are done, or something stale was read.
    fn run(&mut self, operations: u64) {
        let began = now();
        let longest = SLOWEST * u32::try_from(operations).unwrap();
        while self.board.sum(Count::Operations) < operations && self.board.sum(Count::Stale) == 0 {
            assert!(
                began.elapsed() < longest,
                "it stands still; seed {}: {}",
                self.seed,
                self.log()
            );
            self.pause(300);
            // What is done wrong is looked for without help.
            if self.wrong.is_none() {
                self.disturb();
            }
            for child in &mut self.children {
                let ended = child.try_wait().unwrap();
                assert_eq!(ended, None, "a process ended; seed {}", self.seed);
            }
        }
        self.board.stop();
        for child in &mut self.children {
            let ended = child.wait().unwrap();
            assert!(ended.success(), "a process failed");
        }
    }

    /// The last of what the processes said of themselves.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(log(self.folder.path())).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn log(folder: &Path) -> std::path::PathBuf {
    folder.join("log")
}

#[test]
fn no_read_is_older_than_it_may_be() {
    let seed = seed();
    let operations = number("ORCHESTRA_MEMORY_COHERENCE_OPERATIONS").unwrap_or(OPERATIONS);
    let Some(mut run) = Run::new(seed, None) else { return };
    println!("coherence seed {seed}");
    let began = now();
    run.run(operations);
    let (board, done) = (&run.board, &run.done);
    println!(
        "coherence: {} operations, {} hits, {} misses, {} bypasses, {} writes, {} confirmed, \
         {} unconfirmed, {} conflicts, {} failed, {} flushes, {} kills, {} stops, {} processes \
         killed, {} bounded, {} stale, {:.1} seconds",
        board.sum(Count::Operations),
        board.total_sum(Total::Hits),
        board.total_sum(Total::Misses),
        board.total_sum(Total::Bypasses),
        board.sum(Count::Writes),
        board.sum(Count::Confirmed),
        board.total_sum(Total::Unconfirmed),
        board.sum(Count::Conflicts),
        board.sum(Count::Failed),
        done.flushes,
        done.kills,
        done.stops,
        done.processes_killed,
        board.sum(Count::Bounded),
        board.sum(Count::Stale),
        began.elapsed().as_secs_f64(),
    );
    assert_eq!(board.sum(Count::Stale), 0, "seed {seed}: {}", run.log());
    assert_eq!(board.sum(Count::Failed), 0, "the store answers; seed {seed}: {}", run.log());
    // What was looked for could have been there.
    assert!(board.total_sum(Total::Hits) > operations / 20);
    assert!(board.sum(Count::Confirmed) > operations / 100);
}

#[test]
fn a_cache_that_does_something_wrong_is_found() {
    let seed = seed();
    let only = std::env::var("ORCHESTRA_MEMORY_COHERENCE_WRONG").ok();
    for wrong in Wrong::ALL {
        if only.as_deref().is_some_and(|only| only != wrong.name()) {
            continue;
        }
        let Some(mut run) = Run::new(seed, Some(wrong)) else { return };
        run.run(WRONG_OPERATIONS);
        let (operations, stale) = (run.board.sum(Count::Operations), run.board.sum(Count::Stale));
        assert!(
            stale > 0,
            "{} was not found in {operations} operations, seed {seed}",
            wrong.name()
        );
        println!("coherence: {} found within {operations} operations, seed {seed}", wrong.name());
    }
}
