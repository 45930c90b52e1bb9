//! The folders that installations happen in: whose they are, and what killed pulls left of them.

use std::fs;
use std::io;
use std::path::Path;

use memory_core::Result;
use tempfile::TempDir;

use super::file_error;

/// How such a folder is called; nothing else in the model's folder begins so.
const PREFIX: &str = "orchestra-memory-pip-";
/// The file in it that holds the number of the process that works in it.
const PROCESS: &str = "process";

/// Makes a folder for an installation. It is removed when it is dropped, with all that is in it.
pub(super) fn make(folder: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(PREFIX).tempdir_in(folder)
}

/// Writes down which process works in the folder: on Unix the leader of a group of processes.
pub(super) fn sign(folder: &Path, process: u32) -> Result<()> {
    let path = folder.join(PROCESS);
    fs::write(&path, process.to_string()).map_err(|error| file_error("cannot write", &path, error))
}

/// Removes what pulls that were killed have left, once nobody works with it. Under the lock no
/// other pull does; what a killed one had started may.
pub(super) fn remove(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if ours && !is_in_use(&entry.path()) {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether the process that works in the folder may be at work still. Without its number the pull
/// was killed before there was one. A number that another process has by now keeps the folder for
/// as long as that one lives.
fn is_in_use(folder: &Path) -> bool {
    let Ok(text) = fs::read_to_string(folder.join(PROCESS)) else { return false };
    text.parse().is_ok_and(may_live)
}

/// Whether the process or one of its group lives. One that nobody has waited for has ended.
#[cfg(target_os = "linux")]
fn may_live(process: u32) -> bool {
    let Ok(entries) = fs::read_dir("/proc") else { return answers(process) };
    let mut any = false;
    for entry in entries.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        any = true;
        // One that ends just now has nothing to read.
        let Ok(text) = fs::read(entry.path().join("stat")) else { continue };
        if let Some((state, group)) = state_and_group(&String::from_utf8_lossy(&text))
            && (number == process || group == process)
            && !matches!(state, "Z" | "X" | "x")
        {
            return true;
        }
    }
    // Without processes it is not what it should be: not even this one is there.
    !any && answers(process)
}

/// The state of a process and the number of its group, from its `stat`: the name in parentheses
/// may hold anything, and after it come state, parent and group.
#[cfg(target_os = "linux")]
fn state_and_group(stat: &str) -> Option<(&str, u32)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    Some((state, fields.nth(1)?.parse().ok()?))
}

#[cfg(all(unix, not(target_os = "linux")))]
fn may_live(process: u32) -> bool {
    answers(process)
}

/// Whether the process or one of its group can be sent a signal; yes, if nobody can be asked.
#[cfg(unix)]
fn answers(process: u32) -> bool {
    use std::process::{Command, Stdio};
    Command::new("/bin/sh")
        .args(["-c", &format!("kill -0 {process} || kill -0 -{process}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_or(true, |status| status.success())
}

/// Nobody can be asked, so it may.
#[cfg(not(unix))]
fn may_live(_process: u32) -> bool {
    true
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn processes_and_their_groups_are_seen_while_they_live() {
        let start = |group: u32| {
            let mut sleep = Command::new("sleep");
            sleep.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            sleep.process_group(i32::try_from(group).unwrap()).spawn().unwrap()
        };
        let mut leader = start(0);
        let group = leader.id();
        let mut member = start(group);
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_in_use(folder.path()), "nobody signed");
        sign(folder.path(), group).unwrap();
        assert!(is_in_use(folder.path()) && answers(group));
        leader.kill().unwrap();
        leader.wait().unwrap();
        assert!(is_in_use(folder.path()) && answers(group), "its group lives");
        member.kill().unwrap();
        // On Linux it has ended before anybody has waited for it.
        #[cfg(target_os = "linux")]
        for _ in 0..300 {
            if !is_in_use(folder.path()) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        #[cfg(target_os = "linux")]
        assert!(!is_in_use(folder.path()), "it is still there");
        member.wait().unwrap();
        assert!(!is_in_use(folder.path()) && !answers(group), "all have ended");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_may_hold_anything() {
        assert_eq!(state_and_group("7 (sh) S 1 5 5 0 -1"), Some(("S", 5)));
        assert_eq!(state_and_group("7 (a) R 1 2 (b) Z 1 5 5 0 -1"), Some(("Z", 5)));
        assert_eq!(state_and_group("7 (sh) S 1"), None);
        assert_eq!(state_and_group(""), None);
    }
}
