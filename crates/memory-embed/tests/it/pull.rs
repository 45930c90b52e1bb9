//! Getting a model's files: over HTTP, from a place, through `pip`; and what is said of them.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use memory_core::{Error, ErrorKind, Result};
use memory_embed::model::{Check, FileState, Model, ModelFile, read_verified, status};
use memory_embed::pull::{Progress, PullReport, Source, Stage, pull};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

mod hub;
#[cfg(unix)]
mod links;
#[cfg(unix)]
mod pip;
mod place;
mod stub;

const WEIGHTS: &str = "weights.bin";
const WORDS: &str = "words.txt";

/// Bytes that look like nothing in particular.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// The contents of a small model's files.
fn contents(name: &str) -> &'static [u8] {
    static CONTENTS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    let [weights, words] = CONTENTS.get_or_init(|| [bytes(400_000, 1), bytes(3_000, 2)]);
    match name {
        WEIGHTS => weights,
        WORDS => words,
        _ => panic!("the model has no {name}"),
    }
}

/// The small model.
fn model() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| {
        let file = |name| {
            let contents = contents(name);
            let digits: String =
                Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
            ModelFile { name, bytes: contents.len() as u64, sha256: digits.leak() }
        };
        let files = Box::leak(Box::new([file(WEIGHTS), file(WORDS)]));
        Model { name: "small", revision: "1", files }
    })
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A folder that holds the model's files.
fn whole_folder() -> TempDir {
    let folder = folder();
    for file in model().files {
        fs::write(folder.path().join(file.name), contents(file.name)).unwrap();
    }
    folder
}

/// Pulls to the end.
fn run(folder: &Path, source: &Source) -> Result<PullReport> {
    pull(model(), folder, source, &mut |_| ControlFlow::Continue(()))
}

/// Pulls, which is expected to fail.
fn fail(folder: &Path, source: &Source) -> Error {
    run(folder, source).expect_err("it should have failed")
}

/// Both files are there, byte for byte, and nothing else but the lock.
fn assert_whole(folder: &Path) {
    for file in model().files {
        assert!(fs::read(folder.join(file.name)).unwrap() == contents(file.name), "{}", file.name);
    }
    assert_eq!(names(folder), [WEIGHTS, WORDS]);
}

/// What the folder holds, but for the lock.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "pull.lock")
        .collect();
    names.sort();
    names
}

/// One test of this binary in a process of its own, whose environment can be another.
fn again(module: &str, test: &str) -> Command {
    let (_, module) = module.split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("{module}::{test}"), "--nocapture"]);
    command
}

fn states(folder: &Path, check: Check) -> Vec<FileState> {
    status(model(), folder, check).files.into_iter().map(|file| file.state).collect()
}

#[test]
fn a_whole_model_is_ready() {
    let folder = whole_folder();
    let sizes = status(model(), folder.path(), Check::Sizes);
    assert!(sizes.is_ready() && sizes.problem().is_none());
    assert_eq!(states(folder.path(), Check::Sizes), [FileState::Present, FileState::Present]);
    let contents = status(model(), folder.path(), Check::Contents);
    assert!(contents.is_ready() && contents.problem().is_none());
    assert_eq!(states(folder.path(), Check::Contents), [FileState::Whole, FileState::Whole]);
}

#[test]
fn a_missing_model_is_not_found() {
    let folder = folder();
    for check in [Check::Sizes, Check::Contents] {
        let found = status(model(), folder.path(), check);
        assert!(!found.is_ready());
        assert_eq!(states(folder.path(), check), [FileState::Missing, FileState::Missing]);
        let problem = found.problem().unwrap();
        assert_eq!(problem.kind(), ErrorKind::NotFound);
        let expected = format!(
            "no embedding model at {}: `orchestra-memory model pull` gets it (1 MiB)",
            folder.path().display()
        );
        assert_eq!(problem.message(), expected);
    }
    fs::write(folder.path().join(WEIGHTS), contents(WEIGHTS)).unwrap();
    let problem = status(model(), folder.path(), Check::Contents).problem().unwrap();
    assert_eq!(problem.kind(), ErrorKind::NotFound);
    assert!(problem.message().contains("lacks words.txt: "), "{problem}");
}

#[test]
fn a_truncated_file_is_corrupt_by_its_size() {
    let folder = whole_folder();
    let path = folder.path().join(WORDS);
    fs::write(&path, &contents(WORDS)[..2999]).unwrap();
    for check in [Check::Sizes, Check::Contents] {
        let found = status(model(), folder.path(), check);
        assert!(!found.is_ready());
        assert_eq!(found.files[1].state, FileState::WrongSize { bytes: 2999 });
        let problem = found.problem().unwrap();
        assert_eq!(problem.kind(), ErrorKind::Corrupt);
        let expected = format!("{} has 2999 bytes and should have 3000", path.display());
        assert!(problem.message().starts_with(&expected), "{problem}");
        assert!(problem.message().contains("model pull"), "{problem}");
    }
    let error = read_verified(&model().files[1], &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn an_altered_file_is_corrupt_by_its_contents() {
    let folder = whole_folder();
    let path = folder.path().join(WORDS);
    assert_eq!(read_verified(&model().files[1], &path).unwrap(), contents(WORDS));
    let mut altered = contents(WORDS).to_vec();
    altered[1500] ^= 1;
    fs::write(&path, altered).unwrap();
    // By its size it is in order.
    assert!(status(model(), folder.path(), Check::Sizes).is_ready());
    let found = status(model(), folder.path(), Check::Contents);
    assert_eq!(found.files[1].state, FileState::WrongContents);
    let problem = found.problem().unwrap();
    assert_eq!(problem.kind(), ErrorKind::Corrupt);
    assert!(problem.message().contains("words.txt has its 3000 bytes and not the right"));
    let error = read_verified(&model().files[1], &path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn what_is_no_file_is_unreadable() {
    let folder = folder();
    fs::create_dir(folder.path().join(WEIGHTS)).unwrap();
    fs::write(folder.path().join(WORDS), contents(WORDS)).unwrap();
    let found = status(model(), folder.path(), Check::Contents);
    assert!(!found.is_ready());
    let FileState::Unreadable { kind, reason } = &found.files[0].state else {
        panic!("{:?}", found.files[0].state)
    };
    assert_eq!(*kind, ErrorKind::InvalidInput);
    assert!(reason.contains(WEIGHTS), "{reason}");
    assert_eq!(found.files[1].state, FileState::Whole);
    assert_eq!(found.problem().unwrap().kind(), ErrorKind::InvalidInput);
    // Nothing is written over what is no file.
    let error = fail(folder.path(), &Source::Path(whole_folder().path().to_owned()));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_folder_that_cannot_be_one_is_refused() {
    let source = whole_folder();
    let source = Source::Path(source.path().to_owned());
    let outer = folder();
    let file = outer.path().join("a file");
    fs::write(&file, "x").unwrap();
    let taken = fail(&file, &source);
    assert_eq!(taken.kind(), ErrorKind::InvalidInput);
    assert!(taken.message().contains("a file is not a folder"), "{taken}");
    let below = fail(&file.join("below"), &source);
    assert_eq!(below.kind(), ErrorKind::InvalidInput);
    assert!(below.message().contains("a file"), "{below}");
    // Folders that are not there are made.
    let deep = outer.path().join("a/b/c");
    run(&deep, &source).unwrap();
    assert_whole(&deep);
}

#[test]
fn one_pull_at_a_time() {
    let source = whole_folder();
    let source = Source::Path(source.path().to_owned());
    let target = folder();
    let mut refusals = Vec::new();
    let report = pull(model(), target.path(), &source, &mut |progress| {
        if progress.stage == Stage::Fetching {
            refusals.push(fail(target.path(), &source));
        }
        ControlFlow::Continue(())
    });
    report.unwrap();
    assert!(!refusals.is_empty());
    for error in refusals {
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_retryable());
        assert!(error.message().starts_with("another pull"), "{error}");
        if cfg!(unix) {
            let process = format!("(process {})", std::process::id());
            assert!(error.message().contains(&process), "{error}");
        }
    }
    assert_whole(target.path());
    // The lock was given back.
    fs::remove_file(target.path().join(WORDS)).unwrap();
    assert_eq!(run(target.path(), &source).unwrap().installed, [WORDS]);
}

#[test]
fn a_whole_model_needs_no_lock_and_no_source() {
    let target = whole_folder();
    let lock = fs::File::create(target.path().join("pull.lock")).unwrap();
    lock.lock().unwrap();
    let nowhere = Source::Path(target.path().join("nowhere"));
    let report = run(target.path(), &nowhere).unwrap();
    assert_eq!(report.present, [WEIGHTS, WORDS]);
    assert!(report.installed.is_empty() && report.bytes == 0 && !report.cancelled);
    // Both count as soon as a file is missing.
    fs::remove_file(target.path().join(WORDS)).unwrap();
    let held = fail(target.path(), &nowhere);
    assert_eq!(held.kind(), ErrorKind::Unavailable);
    assert!(held.message().starts_with("another pull is at work"), "{held}");
    lock.unlock().unwrap();
    assert_eq!(fail(target.path(), &nowhere).kind(), ErrorKind::NotFound);
}
