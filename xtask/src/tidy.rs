//! `cargo xtask tidy`: what no compiler checks. Each source file says what it is, none is
//! overlong, nothing is left unfinished or skipped, links lead somewhere, and the core touches
//! neither files nor the environment.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{links, shell};

/// Lines beyond which a file holds more than one concept.
const MAX_LINES: usize = 600;

/// What no source file may hold; pieced together, so that this file passes its own check.
const LEFTOVERS: &[(&str, &str)] = &[
    (concat!("to", "do!("), "unfinished code"),
    (concat!("unimple", "mented!("), "unfinished code"),
    (concat!("#[ig", "nore"), "a test that never runs"),
    (concat!("FIX", "ME"), "unfinished code"),
];

/// What no file of the repository may hold.
const MACHINE_PATHS: &[&str] =
    &[concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];

/// What the core's sources may not name.
const AMBIENT: &[&str] = &["std::fs", "std::env", "std::net", "std::process", "std::thread"];

/// The kinds of files that are read as text.
const TEXT: &[&str] = &["json", "jsonl", "md", "rs", "sh", "sql", "toml", "yaml", "yml"];

/// Checks every file of the repository.
pub(crate) fn run() -> Result<()> {
    let root = shell::root();
    let (mut complaints, mut sources) = (Vec::new(), 0);
    for path in links::files()? {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
        if !TEXT.contains(&extension) {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let name = path.strip_prefix(&root).unwrap_or(&path);
        let mut found = anywhere(&text);
        match extension {
            "rs" => {
                sources += 1;
                found.extend(source(name, &text));
            }
            "md" => found.extend(
                links::broken(&path, &text).iter().map(|link| format!("leads nowhere: {link}")),
            ),
            _ => {}
        }
        complaints.extend(found.iter().map(|complaint| format!("{}: {complaint}", name.display())));
    }
    for complaint in &complaints {
        println!("  {complaint}");
    }
    if !complaints.is_empty() {
        bail!("tidy: {} complaint(s)", complaints.len());
    }
    if sources == 0 {
        bail!("tidy: no source file found");
    }
    println!("tidy: {sources} source files in order");
    Ok(())
}

/// Complaints about any text file.
fn anywhere(text: &str) -> Vec<String> {
    let found = MACHINE_PATHS.iter().filter(|path| text.contains(**path));
    found.map(|path| format!("holds a path of somebody's machine ({path})")).collect()
}

/// Complaints about a source file; `name` is relative to the root of the repository.
fn source(name: &Path, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push("does not begin with `//!` and what it is".to_owned());
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        complaints.push(format!("{lines} lines, more than {MAX_LINES}"));
    }
    for (index, line) in text.lines().enumerate() {
        for (needle, why) in LEFTOVERS.iter().filter(|(needle, _)| line.contains(needle)) {
            complaints.push(format!("line {}: {why} (`{needle}`)", index + 1));
        }
        if name.starts_with("crates/memory-core/src") && !line.trim_start().starts_with("//") {
            for ambient in AMBIENT.iter().filter(|ambient| line.contains(**ambient)) {
                complaints.push(format!("line {}: the core names `{ambient}`", index + 1));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_order_passes() {
        let text = "//! A module.\n\nfn main() {}\n";
        assert!(source(Path::new("crates/memory-core/src/a.rs"), text).is_empty());
        assert!(anywhere(text).is_empty());
    }

    #[test]
    fn each_fault_is_found() {
        let a = Path::new("crates/a/src/a.rs");
        assert_eq!(source(a, "fn main() {}\n").len(), 1);
        let long = |lines| format!("//! Long.\n{}", "\n".repeat(lines - 1));
        assert!(source(a, &long(MAX_LINES)).is_empty());
        assert_eq!(source(a, &long(MAX_LINES + 1)).len(), 1);
        for (needle, _) in LEFTOVERS {
            let found = source(a, &format!("//! A module.\n    {needle}\n"));
            assert_eq!(found.len(), 1);
            assert!(found[0].starts_with("line 2: "), "{found:?}");
        }
        for path in MACHINE_PATHS {
            assert_eq!(anywhere(&format!("see {path}x")).len(), 1);
        }
    }

    #[test]
    fn only_the_core_is_kept_from_the_machine_and_may_speak_of_it() {
        let text = "//! A module.\nuse std::fs;\n// std::env is elsewhere\n";
        assert_eq!(source(Path::new("crates/memory-core/src/a.rs"), text).len(), 1);
        assert!(source(Path::new("crates/memory-sqlite/src/a.rs"), text).is_empty());
    }
}
