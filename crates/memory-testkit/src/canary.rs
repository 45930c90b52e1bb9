//! Text that must never be seen outside of a store, and a file of all that is traced.
//!
//! The generators, the model test and the conformance suite write [`TEXT`] into contents, payloads
//! and search texts. `cargo xtask test` looks for it in all outputs of the whole run, and in what
//! [`watch`] has written.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};

use tracing_subscriber::util::SubscriberInitExt as _;

/// What stands for memory text. One word, so that it is searched for as well.
pub const TEXT: &str = "zqxcanarytext";

/// The variable that names the folder of the traces. It has to be there.
pub const FOLDER: &str = "ORCHESTRA_MEMORY_TEST_TRACES";

/// From now on all that this process traces or logs, of every level, goes into a file of the folder
/// that [`FOLDER`] names. Without the variable nothing happens, nor a second time.
///
/// # Panics
/// The file cannot be made: a run that looks at no traces would look like one without a leak.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Some(folder) = std::env::var_os(FOLDER).filter(|folder| !folder.is_empty()) {
            start(Path::new(&folder));
        }
    });
}

#[expect(clippy::expect_used, reason = "a test without its traces cannot go on")]
fn start(folder: &Path) {
    let file = create(folder).expect("the folder of the traces takes a file");
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(Mutex::new(file))
        .finish();
    // A test that has a subscriber for the whole process keeps its own.
    let _ = subscriber.try_init();
}

/// A file that no other process has: process ids come again.
fn create(folder: &Path) -> std::io::Result<File> {
    let path =
        |number: u32| -> PathBuf { folder.join(format!("{}-{number}.trace", std::process::id())) };
    let mut number = 0;
    loop {
        match fs::OpenOptions::new().write(true).create_new(true).open(path(number)) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
            answer => return answer,
        }
    }
}
