//! The minimum Rust version: one in all manifests, the same in the documentation, and not above
//! the toolchain that runs the checks.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::metadata::Metadata;
use crate::{links, shell};

/// Checks manifests, documentation and toolchain.
pub(crate) fn check_workspace(metadata: &Metadata) -> Result<()> {
    let wanted = rust_version(metadata)?;
    let readme = fs::read_to_string(shell::root().join("README.md")).context("README.md")?;
    if !stated(&readme).contains(&wanted.as_str()) {
        bail!("README.md does not state the minimum version; write `Rust {wanted}`");
    }
    for path in links::markdown_files()? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        if let Some(other) = stated(&text).into_iter().find(|version| *version != wanted) {
            bail!("{} says Rust {other}, the manifests {wanted}", path.display());
        }
    }
    let running = toolchain()?;
    if number(&running)? < number(&wanted)? {
        bail!("rustc {running} is older than the minimum version {wanted}");
    }
    let place = if number(&running)? == number(&wanted)? { "is" } else { "is above" };
    println!("msrv: Rust {wanted} in manifests and documentation; rustc {running} {place} it");
    Ok(())
}

/// The version that all crates share.
fn rust_version(metadata: &Metadata) -> Result<String> {
    let mut versions = metadata.members().into_iter().map(|member| member.rust_version.clone());
    let first = versions.next().flatten().context("no crate states its rust-version")?;
    if versions.any(|version| version.as_ref() != Some(&first)) {
        bail!("the crates of the workspace state different rust-versions");
    }
    Ok(first)
}

fn toolchain() -> Result<String> {
    let text = shell::quiet(std::process::Command::new("rustc").arg("--version"))?.text;
    let version = text.split_whitespace().nth(1).context("rustc does not tell its version")?;
    Ok(version.to_owned())
}

/// Every `Rust 1.x` in a text.
fn stated(text: &str) -> Vec<&str> {
    let after = text.match_indices("Rust 1.").map(|(at, _)| &text[at + "Rust ".len()..]);
    after
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            rest[..end].trim_end_matches('.')
        })
        .collect()
}

/// `1.95.0-nightly` as `(1, 95)`: a patch release changes no interface.
fn number(version: &str) -> Result<(u32, u32)> {
    let mut parts = version.split(['.', '-']).map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => bail!("`{version}` is no Rust version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(number("1.95.0-nightly").unwrap(), (1, 95));
        assert!(number("1.100").unwrap() > number("1.95.3").unwrap());
        assert!(number("stable").is_err());
    }

    #[test]
    fn every_statement_in_a_text_is_found() {
        assert_eq!(stated("Needs Rust 1.95. Not Rust 1.90, nor Rust 2."), ["1.95", "1.90"]);
        assert!(stated("Written in Rust.").is_empty());
    }
}
