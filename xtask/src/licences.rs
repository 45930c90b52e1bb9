//! `cargo xtask licences`: every crate in the graph has a licence that this project can be
//! distributed with, whatever section of a manifest brought it in and for whatever target.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::metadata::Metadata;
use crate::spdx::Expression;

/// The licences that need no thought: permissive ones, and MPL-2.0, which binds only its own files.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// The exceptions that only widen what their licence grants.
const ALLOWED_EXCEPTIONS: &[(&str, &str)] = &[("Apache-2.0", "LLVM-exception")];

/// What the crates of this workspace must say themselves.
const OWN: &str = "MIT OR Apache-2.0";

/// Checks the workspace.
pub(crate) fn run() -> Result<()> {
    check_workspace(&Metadata::load()?)
}

/// Checks what cargo has said about the workspace.
pub(crate) fn check_workspace(metadata: &Metadata) -> Result<()> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut refused = Vec::new();
    for package in metadata.packages.values() {
        let licence = package.licence.as_deref();
        let verdict = if package.member { own(licence) } else { judge(licence) };
        match verdict {
            Ok(()) => *counts.entry(licence.unwrap_or_default()).or_default() += 1,
            Err(why) => refused.push(format!("{} {}: {why}", package.name, package.version)),
        }
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by_key(|(licence, count)| (usize::MAX - count, *licence));
    for (licence, count) in &rows {
        println!("  {count:>4}  {licence}");
    }
    if refused.is_empty() {
        println!("licences: {} crates, all allowed", metadata.packages.len());
        return Ok(());
    }
    for line in &refused {
        println!("  {line}");
    }
    bail!("licences: {} crate(s) refused", refused.len())
}

fn own(licence: Option<&str>) -> Result<(), String> {
    match licence {
        Some(OWN) => Ok(()),
        other => Err(format!("a crate of this workspace says {other:?}, not `{OWN}`")),
    }
}

/// Whether a dependency may be used, or why not.
fn judge(licence: Option<&str>) -> Result<(), String> {
    let text = licence.ok_or("its manifest names no licence expression")?;
    if Expression::parse(text)?.satisfied(&allowed) {
        Ok(())
    } else {
        Err(format!("`{text}` is not satisfied by the allow list"))
    }
}

fn allowed(id: &str, exception: Option<&str>) -> bool {
    match exception {
        None => ALLOWED.contains(&id),
        Some(exception) => ALLOWED_EXCEPTIONS.contains(&(id, exception)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_licences_pass() {
        for text in [
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "Unlicense OR MIT",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "Apache-2.0 WITH LLVM-exception",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "BSD-3-Clause",
            "MPL-2.0",
            "GPL-3.0-only OR MIT",
        ] {
            assert_eq!(judge(Some(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_binds_the_whole_program_or_says_nothing_is_refused() {
        for text in [
            "GPL-3.0-only",
            "MIT AND GPL-2.0-or-later",
            "(MIT OR ISC) AND SSPL-1.0",
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "MIT WITH LLVM-exception",
            "Apache-2.0 WITH Commons-Clause",
            "proprietary",
            "",
            "MIT OR",
        ] {
            assert!(judge(Some(text)).is_err(), "{text}");
        }
        assert!(judge(None).is_err());
    }

    #[test]
    fn a_crate_of_the_workspace_says_exactly_the_two() {
        assert_eq!(own(Some("MIT OR Apache-2.0")), Ok(()));
        assert!(own(Some("MIT")).is_err());
        assert!(own(None).is_err());
    }
}
