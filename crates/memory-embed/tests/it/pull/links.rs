//! Folders in which something else lies where a pull writes.

use std::os::unix::fs::symlink;

use super::stub::Stub;
use super::*;

const PART: &str = "weights.bin.part";
const LOCK: &str = "pull.lock";
const PRECIOUS: &str = "precious";

/// A folder, and another one with a file that belongs to somebody else.
fn prepared(contents: &[u8]) -> (TempDir, TempDir) {
    let (target, other) = (folder(), folder());
    fs::write(other.path().join(PRECIOUS), contents).unwrap();
    (target, other)
}

fn refused(error: &Error, name: &str) {
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(!error.is_retryable());
    assert!(error.message().contains(&format!("{name} is a link or something else")), "{error}");
}

#[test]
fn a_link_in_the_place_of_the_lock_is_not_followed() {
    let source = whole_folder();
    let source = Source::Path(source.path().to_owned());
    let (target, other) = prepared(b"");
    // One that leads to a file, one that leads to nothing yet, one that leads to a folder.
    for name in [PRECIOUS, "nothing", "."] {
        let link = target.path().join(LOCK);
        symlink(other.path().join(name), &link).unwrap();
        refused(&fail(target.path(), &source), LOCK);
        assert!(link.is_symlink());
        assert_eq!(names(other.path()), [PRECIOUS]);
        assert_eq!(fs::read(other.path().join(PRECIOUS)).unwrap(), b"");
        assert!(names(target.path()).is_empty());
        fs::remove_file(&link).unwrap();
    }
    run(target.path(), &source).unwrap();
    assert_whole(target.path());
}

#[test]
fn a_link_in_the_place_of_a_part_is_not_followed() {
    let place = whole_folder();
    let stub = Stub::good();
    let sources = [Source::Path(place.path().to_owned()), Source::Hub { base: stub.base() }];
    for source in sources {
        // Empty, the beginning of the file, all of it, and more.
        for length in [0, 1000, 400_000, 400_001] {
            let kept = &[contents(WEIGHTS), b"x"].concat()[..length];
            let (target, other) = prepared(kept);
            for name in [PRECIOUS, "nothing"] {
                let link = target.path().join(PART);
                symlink(other.path().join(name), &link).unwrap();
                refused(&fail(target.path(), &source), PART);
                assert!(link.is_symlink());
                assert_eq!(names(other.path()), [PRECIOUS]);
                assert!(fs::read(other.path().join(PRECIOUS)).unwrap() == kept);
                assert_eq!(names(target.path()), [PART]);
                fs::remove_file(&link).unwrap();
            }
            run(target.path(), &source).unwrap();
            assert_whole(target.path());
        }
    }
}

#[test]
fn what_has_another_name_as_well_is_not_written_to() {
    let place = whole_folder();
    let stub = Stub::good();
    let sources = [Source::Path(place.path().to_owned()), Source::Hub { base: stub.base() }];
    for source in sources {
        for length in [0, 1000, 400_000, 400_001] {
            let kept = &[contents(WEIGHTS), b"x"].concat()[..length];
            // In the same folder, so that it is on the same file system.
            let target = folder();
            let precious = target.path().join(PRECIOUS);
            fs::write(&precious, kept).unwrap();
            fs::hard_link(&precious, target.path().join(PART)).unwrap();
            fs::hard_link(&precious, target.path().join(LOCK)).unwrap();
            run(target.path(), &source).unwrap();
            assert!(fs::read(&precious).unwrap() == kept);
            fs::remove_file(&precious).unwrap();
            assert_whole(target.path());
        }
    }
}

#[test]
fn a_pipe_is_not_opened() {
    let source = whole_folder();
    let source = Source::Path(source.path().to_owned());
    let target = folder();
    for name in [LOCK, PART] {
        let pipe = target.path().join(name);
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        refused(&fail(target.path(), &source), name);
        fs::remove_file(&pipe).unwrap();
    }
    run(target.path(), &source).unwrap();
    assert_whole(target.path());
}

#[test]
fn a_lock_that_holds_something_else_keeps_it() {
    let source = whole_folder();
    let source = Source::Path(source.path().to_owned());
    let ours = format!("{}\n", std::process::id());
    for (before, after) in [
        ("a note\n", "a note\n"),
        ("17 geese\n", "17 geese\n"),
        ("12345678901234567890123\n", "12345678901234567890123\n"),
        ("", ours.as_str()),
        ("17", ours.as_str()),
        ("4294967295\n", ours.as_str()),
    ] {
        let target = folder();
        let lock = target.path().join(LOCK);
        fs::write(&lock, before).unwrap();
        let mut refusals = 0;
        let pulled = pull(model(), target.path(), &source, &mut |progress| {
            if progress.stage == Stage::Fetching {
                // It is a lock all the same.
                assert_eq!(fail(target.path(), &source).kind(), ErrorKind::Unavailable);
                refusals += 1;
            }
            ControlFlow::Continue(())
        });
        pulled.unwrap();
        assert!(refusals > 0);
        assert_whole(target.path());
        assert_eq!(fs::read_to_string(&lock).unwrap(), after, "{before}");
    }
}
