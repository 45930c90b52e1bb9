//! Pulls from a stub of a hub.

use super::stub::{Reply, Request, Stub};
use super::*;

fn source(stub: &Stub) -> Source {
    Source::Hub { base: stub.base() }
}

fn asked(path: &str, range: Option<&str>) -> Request {
    Request { path: path.to_owned(), range: range.map(str::to_owned) }
}

fn part(folder: &Path) -> Option<Vec<u8>> {
    fs::read(folder.join("weights.bin.part")).ok()
}

/// A server that cuts its first answer after so many bytes and then does as `later` says.
fn cutting(
    length: usize,
    mut later: impl FnMut(&Request) -> Reply + Send + 'static,
) -> (Stub, TempDir) {
    let stub = Stub::start(move |count, request| match count {
        0 => Reply::file(request).cut(length),
        _ => later(request),
    });
    let target = folder();
    let error = fail(target.path(), &source(&stub));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable());
    let expected = format!("{length} of 400000 bytes of weights.bin are there");
    assert!(error.message().contains(&expected), "{error}");
    assert!(error.message().contains("pulling again goes on"), "{error}");
    assert_eq!(names(target.path()), ["weights.bin.part"]);
    assert!(part(target.path()).unwrap() == contents(WEIGHTS)[..length]);
    (stub, target)
}

#[test]
fn fetches_what_is_not_there() {
    let stub = Stub::good();
    let target = folder();
    let mut seen: Vec<Progress> = Vec::new();
    let report = pull(model(), target.path(), &source(&stub), &mut |progress| {
        seen.push(progress);
        ControlFlow::Continue(())
    });
    let report = report.unwrap();
    assert_whole(target.path());
    assert_eq!(report.folder, target.path());
    assert_eq!(report.installed, [WEIGHTS, WORDS]);
    assert!(report.present.is_empty() && !report.cancelled);
    assert_eq!(report.bytes, 403_000);
    let paths = [asked("/folder/weights.bin", None), asked("/folder/words.txt", None)];
    assert_eq!(stub.requests(), paths);

    // Each stage of each file goes from nothing to all of it, in steps that are not too small.
    for (name, total) in [(WEIGHTS, 400_000), (WORDS, 3_000)] {
        for stage in [Stage::Fetching, Stage::Verifying] {
            let done: Vec<u64> = seen
                .iter()
                .filter(|progress| progress.file == Some(name) && progress.stage == stage)
                .inspect(|progress| assert_eq!(progress.total, total))
                .map(|progress| progress.done)
                .collect();
            assert_eq!(done.first(), Some(&0));
            assert_eq!(done.last(), Some(&total));
            assert!(done.windows(2).all(|pair| pair[0] < pair[1]), "{done:?}");
            assert!(done.len() <= 5, "{done:?}");
        }
    }

    // Nothing is fetched twice.
    let again = run(target.path(), &source(&stub)).unwrap();
    assert_eq!(again.present, [WEIGHTS, WORDS]);
    assert!(again.installed.is_empty());
    assert_eq!(stub.requests().len(), 2);
    // What is damaged is.
    fs::write(target.path().join(WORDS), bytes(3000, 9)).unwrap();
    let mended = run(target.path(), &source(&stub)).unwrap();
    assert_eq!((mended.present, mended.installed), (vec![WEIGHTS], vec![WORDS]));
    assert_whole(target.path());
}

#[test]
fn goes_on_where_the_connection_broke() {
    let (stub, target) = cutting(150_000, Reply::file);
    let sent = stub.sent();
    let mut first = None;
    let report = pull(model(), target.path(), &source(&stub), &mut |progress| {
        first.get_or_insert(progress);
        ControlFlow::Continue(())
    });
    let report = report.unwrap();
    assert_whole(target.path());
    assert_eq!(stub.requests()[1], asked("/folder/weights.bin", Some("bytes=150000-")));
    assert_eq!(stub.sent() - sent, 250_000 + 3_000);
    assert_eq!(report.bytes, 253_000);
    let first = first.unwrap();
    assert_eq!((first.stage, first.done), (Stage::Fetching, 150_000));
}

#[test]
fn breaks_off_again_and_again() {
    let (stub, target) = cutting(100_000, |request| match request.start() {
        Some(start) if start < 300_000 => Reply::file(request).cut(100_000),
        _ => Reply::file(request),
    });
    for there in [200_000, 300_000] {
        assert_eq!(fail(target.path(), &source(&stub)).kind(), ErrorKind::Unavailable);
        assert_eq!(part(target.path()).unwrap().len(), there);
    }
    run(target.path(), &source(&stub)).unwrap();
    assert_whole(target.path());
    assert_eq!(stub.sent(), 403_000);
}

#[test]
fn begins_anew_where_the_server_cannot_go_on() {
    let whole = |request: &Request| Reply::new(200, contents(request.name()));
    let (stub, target) = cutting(150_000, whole);
    assert_eq!(run(target.path(), &source(&stub)).unwrap().bytes, 403_000);
    assert_whole(target.path());
    assert_eq!(stub.requests()[1].start(), Some(150_000));
    assert_eq!(stub.requests().len(), 3);
}

#[test]
fn begins_anew_where_the_rest_does_not_fit() {
    let whole = contents(WEIGHTS);
    let odd_ones = [
        Reply::new(206, whole).with("content-range", "bytes 0-399999/400000"),
        Reply::new(206, &whole[149_999..]).with("content-range", "bytes 149999-399999/400000"),
        Reply::new(206, &whole[150_000..]).with("content-range", "bytes 150000-399999/400001"),
        Reply::new(206, &whole[150_000..]),
        Reply::new(416, "").with("content-range", "bytes */400000"),
    ];
    for odd in odd_ones {
        let mut odd = Some(odd);
        let (stub, target) = cutting(150_000, move |request| match request.start() {
            Some(_) => odd.take().unwrap(),
            None => Reply::file(request),
        });
        run(target.path(), &source(&stub)).unwrap();
        assert_whole(target.path());
        let ranges: Vec<_> = stub.requests().iter().map(Request::start).collect();
        assert_eq!(ranges, [None, Some(150_000), None, None]);
    }
}

#[test]
fn what_an_older_pull_left_is_judged() {
    let stub = Stub::good();
    let lay = |bytes: &[u8]| {
        let target = folder();
        fs::write(target.path().join("weights.bin.part"), bytes).unwrap();
        fs::write(target.path().join(WORDS), contents(WORDS)).unwrap();
        target
    };
    // All of it, stopped before its end was noticed.
    let target = lay(contents(WEIGHTS));
    let report = run(target.path(), &source(&stub)).unwrap();
    assert_eq!((report.installed, report.bytes), (vec![WEIGHTS], 0));
    assert!(stub.requests().is_empty());
    assert_whole(target.path());
    // As long as the file or longer, and something else.
    for length in [400_000, 400_001] {
        let target = lay(&bytes(length, 5));
        assert_eq!(run(target.path(), &source(&stub)).unwrap().bytes, 400_000);
        assert_eq!(stub.requests().last().unwrap().range, None);
        assert_whole(target.path());
    }
    // The beginning of something else is noticed at the end, and is not the server's fault.
    let target = lay(&bytes(1000, 5));
    let asked = stub.requests().len();
    let report = run(target.path(), &source(&stub)).unwrap();
    assert_eq!((report.installed, report.bytes), (vec![WEIGHTS], 399_000 + 400_000));
    let starts: Vec<_> = stub.requests()[asked..].iter().map(Request::start).collect();
    assert_eq!(starts, [Some(1000), None]);
    assert_whole(target.path());
}

#[test]
fn begins_anew_once_where_the_whole_is_wrong() {
    let altered = |request: &Request| {
        let mut altered = contents(request.name()).to_vec();
        altered[200_000] ^= 0x10;
        let Some(start) = request.start() else { return Reply::new(200, altered) };
        let range = format!("bytes {start}-399999/400000");
        Reply::new(206, &altered[start..]).with("content-range", range)
    };
    let (stub, target) = cutting(150_000, altered);
    let mut fetched = Vec::new();
    let failed = pull(model(), target.path(), &source(&stub), &mut |progress| {
        if progress.stage == Stage::Fetching && progress.done < 151_000 {
            fetched.push(progress.done);
        }
        ControlFlow::Continue(())
    });
    let error = failed.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("weights.bin from 127.0.0.1 has"), "{error}");
    let starts: Vec<_> = stub.requests().iter().map(Request::start).collect();
    assert_eq!(starts, [None, Some(150_000), None]);
    assert_eq!((fetched[0], fetched[1]), (150_000, 0));
    assert!(names(target.path()).is_empty());
}

#[test]
fn refuses_what_is_not_the_file() {
    let whole = contents(WEIGHTS);
    let mut longer = whole.to_vec();
    longer.push(0);
    let mut altered = whole.to_vec();
    altered[200_000] ^= 0x10;
    let page = "<html>Please log in</html>";
    let table: Vec<(Reply, ErrorKind, &str)> = vec![
        (Reply::new(404, "no"), ErrorKind::NotFound, "answers 404 for weights.bin"),
        (Reply::new(401, "no"), ErrorKind::PermissionDenied, "answers 401"),
        (Reply::new(403, "no"), ErrorKind::PermissionDenied, "answers 403"),
        (Reply::new(500, "no"), ErrorKind::Unavailable, "answers 500"),
        (Reply::new(503, "no"), ErrorKind::Unavailable, "answers 503"),
        (Reply::new(204, ""), ErrorKind::Unexpected, "answers 204"),
        (Reply::new(206, whole), ErrorKind::Unexpected, "answers 206"),
        (Reply::new(302, ""), ErrorKind::Unexpected, "redirects to nowhere"),
        (
            Reply::new(200, page).with("content-type", "text/html; charset=utf-8"),
            ErrorKind::Unavailable,
            "a web page",
        ),
        (
            Reply::unannounced(page).with("content-type", "text/html"),
            ErrorKind::Unavailable,
            "a web page",
        ),
        (Reply::new(200, page), ErrorKind::Corrupt, "gives 26 bytes for weights.bin"),
        (Reply::new(200, longer.clone()), ErrorKind::Corrupt, "gives 400001 bytes"),
        (Reply::new(200, &whole[1..]), ErrorKind::Corrupt, "gives 399999 bytes"),
        (Reply::unannounced(longer), ErrorKind::Corrupt, "gives more bytes"),
        (Reply::new(200, altered), ErrorKind::Corrupt, "not the right contents"),
    ];
    for (reply, kind, words) in table {
        let mut reply = Some(reply);
        let stub = Stub::start(move |_, _| reply.take().unwrap());
        let target = folder();
        let error = fail(target.path(), &source(&stub));
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(words), "{error} should say {words}");
        assert_eq!(error.is_retryable(), kind.retryable_by_default(), "{error}");
        assert_eq!(stub.requests().len(), 1);
        assert!(names(target.path()).is_empty(), "{words}: {:?}", names(target.path()));
    }
}

#[test]
fn a_refusal_leaves_what_is_there() {
    for (status, kind) in [(429, ErrorKind::RateLimited), (200, ErrorKind::Corrupt)] {
        let (stub, target) =
            cutting(150_000, move |_| Reply::new(status, "wait a little").with("retry-after", "7"));
        let error = fail(target.path(), &source(&stub));
        assert_eq!(error.kind(), kind);
        let wait = (status == 429).then_some(std::time::Duration::from_secs(7));
        assert_eq!(error.retry_after(), wait);
        assert_eq!(part(target.path()).unwrap().len(), 150_000);
    }
}

#[test]
fn an_unannounced_end_may_be_a_broken_connection() {
    let stub = Stub::start(|count, request| match count {
        0 => Reply::unannounced(&contents(WEIGHTS)[..150_000]),
        _ => Reply::file(request),
    });
    let target = folder();
    assert_eq!(fail(target.path(), &source(&stub)).kind(), ErrorKind::Unavailable);
    assert_eq!(part(target.path()).unwrap().len(), 150_000);
    run(target.path(), &source(&stub)).unwrap();
    assert_whole(target.path());
    // Without a length the file itself is as good as with one.
    let stub = Stub::start(|_, request| Reply::unannounced(contents(request.name())));
    let target = folder();
    run(target.path(), &source(&stub)).unwrap();
    assert_whole(target.path());
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    let stub = Stub::good();
    let gone = source(&stub);
    drop(stub);
    let target = folder();
    let error = fail(target.path(), &gone);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("127.0.0.1 cannot be reached"), "{error}");
    fs::write(target.path().join("weights.bin.part"), &contents(WEIGHTS)[..10]).unwrap();
    let error = fail(target.path(), &gone);
    assert!(error.message().contains("10 of 400000 bytes"), "{error}");
    assert_eq!(part(target.path()).unwrap().len(), 10);
}

#[test]
fn follows_redirects_with_the_range() {
    let store = Stub::good();
    let elsewhere = store.base();
    let stub = Stub::start(move |_, request| {
        let name = request.name();
        let reply = |status| Reply::new(status, "over there");
        match request.path.strip_suffix(name).unwrap() {
            "/folder/" => reply(302).with("location", format!("/second/{name}")),
            "/second/" => reply(307).with("location", format!("third/{name}")),
            _ => reply(308).with("location", format!("{elsewhere}/{name}?signed=yes")),
        }
    });
    let target = folder();
    fs::write(target.path().join("weights.bin.part"), &contents(WEIGHTS)[..1000]).unwrap();
    run(target.path(), &source(&stub)).unwrap();
    assert_whole(target.path());
    let expected = [
        asked("/folder/weights.bin?signed=yes", Some("bytes=1000-")),
        asked("/folder/words.txt?signed=yes", None),
    ];
    assert_eq!(store.requests(), expected);
    let paths: Vec<String> = stub.requests().into_iter().map(|request| request.path).collect();
    let expected = ["/folder/weights.bin", "/second/weights.bin", "/second/third/weights.bin"];
    assert_eq!(paths[..3], expected);
}

#[test]
fn refuses_redirects_out_of_the_machine_without_https() {
    for to in [
        "http://192.0.2.1/folder/weights.bin?token=secret",
        "http://localhost.test/weights.bin",
        "//192.0.2.1/weights.bin",
        "ftp://127.0.0.1/weights.bin",
    ] {
        let stub = Stub::start(move |_, _| Reply::new(302, "").with("location", to));
        let target = folder();
        let error = fail(target.path(), &source(&stub));
        assert_eq!(error.kind(), ErrorKind::Unexpected, "{error}");
        assert!(error.message().contains("without https"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        assert_eq!(stub.requests().len(), 1);
        assert!(names(target.path()).is_empty());
    }
}

#[test]
fn redirects_come_to_an_end() {
    let stub =
        Stub::start(|count, _| Reply::new(302, "").with("location", format!("/round/{count}")));
    let target = folder();
    let error = fail(target.path(), &source(&stub));
    assert_eq!(error.kind(), ErrorKind::Unexpected);
    assert!(error.message().contains("redirects without end"), "{error}");
    assert_eq!(stub.requests().len(), 11);
}

#[test]
fn stops_when_it_is_told_and_goes_on_later() {
    let stub = Stub::good();
    let target = folder();
    let mut there = 0;
    let report = pull(model(), target.path(), &source(&stub), &mut |progress| {
        there = progress.done;
        match progress.done {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    });
    let report = report.unwrap();
    assert!(report.cancelled);
    assert!(report.installed.is_empty() && report.present.is_empty());
    assert_eq!(report.bytes, there);
    assert!(there > 0 && there < 400_000, "{there}");
    assert_eq!(part(target.path()).unwrap().len() as u64, there);
    assert_eq!(names(target.path()), ["weights.bin.part"]);

    let report = run(target.path(), &source(&stub)).unwrap();
    assert!(!report.cancelled);
    assert_eq!(report.bytes, 403_000 - there);
    assert_eq!(stub.requests()[1].start().unwrap() as u64, there);
    assert_whole(target.path());
}

#[test]
fn stops_at_any_call() {
    let stub = Stub::good();
    let target = folder();
    // Every call of every stage in turn; each pull gets one call further than the one before,
    // until one gets to the end.
    for stop_at in 1.. {
        let mut calls = 0;
        let report = pull(model(), target.path(), &source(&stub), &mut |_| {
            calls += 1;
            if calls == stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let report = report.unwrap();
        assert_eq!(report.cancelled, calls == stop_at);
        for name in report.installed.iter().chain(&report.present) {
            assert!(fs::read(target.path().join(name)).unwrap() == contents(name));
        }
        if !report.cancelled {
            break;
        }
        assert!(stop_at < 100);
    }
    assert_whole(target.path());
}

#[test]
fn waits_are_bounded_and_for_those_who_ask_for_them_alone() {
    let day = 24 * 3_600;
    for (status, wait, expected) in [
        (429, "7", Some(7)),
        (503, "7", Some(7)),
        (429, "99999999999", Some(day)),
        (500, "Thu, 06 Nov 2003 08:49:37 GMT", Some(0)),
        (502, "Fri, 31 Dec 9998 08:49:37 GMT", Some(day)),
        (503, "soon", None),
        (403, "7", None),
        (404, "7", None),
        (408, "7", None),
        (600, "7", None),
    ] {
        let stub = Stub::start(move |_, _| Reply::new(status, "").with("retry-after", wait));
        let error = fail(folder().path(), &source(&stub));
        let found = error.retry_after().map(|wait| wait.as_secs());
        assert_eq!(found, expected, "{status} {wait}");
    }
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_but_for_loopback() {
    const SET: &str = "ALL_PROXY";
    const VALUE: &str = "socks5://user:secret@127.0.0.1:1";
    if std::env::var_os(SET).is_none_or(|value| value != VALUE) {
        let mut command =
            again(module_path!(), "a_proxy_that_cannot_be_used_is_refused_but_for_loopback");
        command.env(SET, VALUE).env("NO_PROXY", "").env("no_proxy", "");
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let stub = Stub::good();
    let target = folder();
    run(target.path(), &source(&stub)).unwrap();
    assert_whole(target.path());
    let target = folder();
    let elsewhere = Source::Hub { base: "https://192.0.2.1/folder".to_owned() };
    let error = fail(target.path(), &elsewhere);
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.message().contains(SET) && !error.message().contains("secret"), "{error}");
    // Wherever a redirect leads.
    let stub = Stub::start(|_, _| Reply::new(302, "").with("location", "https://192.0.2.1/x"));
    assert_eq!(fail(target.path(), &source(&stub)).kind(), ErrorKind::Config);
}

#[test]
fn a_hub_has_to_be_one() {
    let target = folder();
    for base in [
        "",
        "one.test",
        "http://one.test",
        "https://a:secret@one.test",
        "https://a:b#secret@one.test",
        "a:secret@one.test",
        "one.test/?secret",
        "file:///x",
    ] {
        let error = fail(target.path(), &Source::Hub { base: base.to_owned() });
        assert_eq!(error.kind(), ErrorKind::Config, "{base}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
