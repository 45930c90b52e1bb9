//! Processes of this machine by their number, told from later ones with the same number by when
//! they started. By the proc file system of Linux.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::deadline::Deadline;

/// How long a process may take to end by itself when it is asked to.
const TERM: Duration = Duration::from_secs(10);

/// How long the system may take to end it.
const KILL: Duration = Duration::from_secs(10);

/// One process, and no other that gets its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: u32,
    /// When it started, in ticks of the system since that was started.
    pub(crate) started: u64,
}

impl Process {
    /// The process that has the number now.
    ///
    /// # Errors
    /// There is none, it has ended and only its parent has not heard of it, or the system has no
    /// `/proc`.
    pub(crate) fn running(pid: u32) -> Result<Self> {
        let (ended, process) = Self::look_up(pid)?;
        if ended {
            bail!("process {pid} has ended");
        }
        Ok(process)
    }

    /// A child of this process, which may have ended and was not waited for yet.
    ///
    /// # Errors
    /// The system has no `/proc`.
    pub(crate) fn child(child: &Child) -> Result<Self> {
        Self::look_up(child.id()).map(|(_, process)| process)
    }

    /// Whether the process of that number has ended, and which it is.
    fn look_up(pid: u32) -> Result<(bool, Self)> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let found = end_and_start(&text).map(|(ended, started)| (ended, Self { pid, started }));
        found.with_context(|| format!("{path} does not say when the process started"))
    }

    /// Whether it still runs.
    pub(crate) fn runs(&self) -> bool {
        Self::running(self.pid).is_ok_and(|now| now == *self)
    }

    /// Whether it listens on a port of IPv4.
    pub(crate) fn listens_on(&self, port: u16) -> bool {
        let table = |name| fs::read_to_string(format!("/proc/{}/net/{name}", self.pid));
        // Java listens on IPv4 by a socket of IPv6.
        let tables = [table("tcp"), table("tcp6")];
        let sockets: Vec<_> = tables.iter().flatten().flat_map(|t| listeners(t, port)).collect();
        let Ok(open) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else { return false };
        open.flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
    }

    /// The memory that it holds, in bytes; `None` where it has ended.
    pub(crate) fn resident(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        self.runs().then(|| resident(&text))?
    }

    /// Asks it to end, makes it end when it does not, and returns when it has.
    ///
    /// # Errors
    /// It belongs to somebody else, or does not end all the same.
    pub(crate) fn end(&self) -> Result<()> {
        self.end_within(TERM)
    }

    fn end_within(&self, term: Duration) -> Result<()> {
        for (signal, patience) in [("TERM", term), ("KILL", KILL)] {
            if !self.runs() {
                return Ok(());
            }
            // The shell has `kill` built in, where the program of that name may be missing.
            let mut kill = Command::new("sh");
            kill.args(["-c", "kill -s \"$1\" \"$2\"", "sh", signal, &self.pid.to_string()]);
            let sent = kill.stdin(Stdio::null()).stderr(Stdio::null()).status();
            let sent = sent.context("cannot start `sh`")?.success();
            let deadline = Deadline::after(patience);
            while self.runs() && !deadline.passed() {
                if !sent {
                    bail!("process {} cannot be ended: is it somebody else's?", self.pid);
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        if self.runs() {
            bail!("process {} does not end", self.pid);
        }
        Ok(())
    }
}

/// Whether a process has ended and when it started, from its `stat`: the state is field 3, the
/// number of its threads field 20, the start field 22. The name, field 2, stands in parentheses and
/// may hold any of these and spaces.
fn end_and_start(stat: &str) -> Option<(bool, u64)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?;
    let threads: u32 = fields.nth(16)?.parse().ok()?;
    // While other threads end, they hold what was open, although the first one is done.
    let ended = matches!(state, "Z" | "X") && threads <= 1;
    Some((ended, fields.nth(1)?.parse().ok()?))
}

/// The sockets that listen on a port, as links of open files name them, from a table of the kernel:
/// the local address with the port in hexadecimal is field 2, the state field 4, the number field
/// 10.
fn listeners(table: &str, port: u16) -> impl Iterator<Item = String> {
    table.lines().filter_map(move |line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let listens = u16::from_str_radix(local, 16) == Ok(port) && *fields.get(3)? == "0A";
        listens.then(|| fields.get(9).map(|number| format!("socket:[{number}]")))?
    })
}

/// The line `VmRSS` of a `status`, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_read_behind_a_name_of_any_shape() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16";
        for name in ["java", "a b", "x) S 1", "((("] {
            let stat =
                |state, threads| format!("12 ({name}) {state} {rest} {threads} 0 4711 20 21");
            assert_eq!(end_and_start(&stat("S", 30)), Some((false, 4711)));
            assert_eq!(end_and_start(&stat("Z", 30)), Some((false, 4711)));
            assert_eq!(end_and_start(&stat("Z", 1)), Some((true, 4711)));
        }
        assert_eq!(end_and_start("12 (java) S 1 2"), None);
        assert_eq!(end_and_start(""), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(resident("Name:\tjava\nVmRSS:\t    2048 kB\nThreads:\t3\n"), Some(2_097_152));
        assert_eq!(resident("Name:\tjava\n"), None);
    }

    #[test]
    fn the_listeners_of_a_port_are_read_from_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 77 1\n   \
                     1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000 0 0 78 1\n   \
                     2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 79 1\n";
        assert_eq!(listeners(table, 8080).collect::<Vec<_>>(), ["socket:[77]"]);
        assert_eq!(listeners(table, 8082).count(), 0);
    }

    #[cfg(target_os = "linux")]
    mod on_linux {
        use super::*;

        #[test]
        fn a_process_is_known_by_the_ports_that_it_listens_on() {
            let me = Process::running(std::process::id()).unwrap();
            let mut child = Command::new("sleep").arg("600").spawn().unwrap();
            let other = Process::running(child.id()).unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            assert!(me.listens_on(port) && !other.listens_on(port));
            drop(listener);
            assert!(!me.listens_on(port));
            other.end().unwrap();
            child.wait().unwrap();
        }

        #[test]
        fn a_process_is_told_from_another_with_its_number() {
            let me = Process::running(std::process::id()).unwrap();
            assert!(me.runs());
            assert!(me.resident().unwrap() > 0);
            let earlier = Process { started: me.started - 1, ..me };
            assert!(!earlier.runs());
            assert_eq!(earlier.resident(), None);
            // It is not that process which is ended.
            earlier.end().unwrap();
            assert!(me.runs());
        }

        #[test]
        fn a_process_is_ended_and_one_that_does_not_listen_is_made_to() {
            for (script, term) in [
                ("exec sleep 600", TERM),
                ("trap '' TERM; echo; while :; do sleep 0.05; done", Duration::from_millis(50)),
            ] {
                let mut child =
                    Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
                let process = Process::running(child.id()).unwrap();
                if script.starts_with("trap") {
                    // It says so when it no longer listens.
                    let mut line = [0];
                    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
                }
                process.end_within(term).unwrap();
                assert!(!process.runs());
                assert!(!child.wait().unwrap().success());
                process.end().unwrap();
            }
        }
    }
}
