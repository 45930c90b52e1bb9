//! The Markdown files of the repository and the links between them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell;

/// Every file of the repository, hidden folders and build results left out, sorted.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![shell::root()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if name == "target" || name.to_string_lossy().starts_with('.') {
                continue;
            }
            let folder = entry.file_type()?.is_dir();
            if folder { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort();
    Ok(files)
}

/// The Markdown files that describe the present: not the changelog, nor the decisions of the past.
pub(crate) fn markdown_files() -> Result<Vec<PathBuf>> {
    let present = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "md")
            && !path.ends_with("CHANGELOG.md")
            && path.components().all(|part| part.as_os_str() != "adr")
    };
    Ok(files()?.into_iter().filter(present).collect())
}

/// The links of a Markdown file that lead to no file.
pub(crate) fn broken(path: &Path, text: &str) -> Vec<String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    targets(text).into_iter().filter(|target| !folder.join(target).exists()).collect()
}

/// The relative paths that a Markdown text links to, without their fragments.
fn targets(text: &str) -> Vec<String> {
    let mut targets = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        // Code is no link, whatever it looks like: every second part between backquotes.
        let prose: String =
            if fenced { String::new() } else { line.split('`').step_by(2).collect::<String>() };
        for (at, opening) in prose.match_indices("](") {
            let rest = &prose[at + opening.len()..];
            let target = rest.split([')', ' ', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                targets.push(target.to_owned());
            }
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_links_outside_code_count() {
        let text = "See [a](docs/a.md#part), [b](https://example.org/b.md) and [c](#here).\n\
                    `[d](d.md)` and [`e`](e.md \"title\").\n\
                    ```text\n[f](f.md)\n```\n[g](g.md)";
        assert_eq!(targets(text), ["docs/a.md", "e.md", "g.md"]);
    }

    #[test]
    fn a_link_to_a_missing_file_is_broken_and_one_to_a_present_file_is_not() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
        assert_eq!(broken(&here, "[x](Cargo.toml) [y](missing.md)"), ["missing.md"]);
    }
}
