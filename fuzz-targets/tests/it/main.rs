//! The corpora of the fuzz targets as ordinary tests: seeds written by hand and what the fuzzer
//! found.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use fuzz_targets::TARGETS;

/// The folder of the fuzz programs and their corpora.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| {
        panic!("{} cannot be read: {error}", folder.display());
    });
    entries
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[test]
fn every_input_of_the_corpora_keeps_the_invariants() {
    for (name, check) in TARGETS {
        let corpus = folder().join("corpus").join(name);
        let inputs = names(&corpus);
        assert!(inputs.len() >= 3, "{name} has a corpus");
        for input in inputs {
            let path = corpus.join(input);
            let bytes = std::fs::read(&path).expect("an input is read");
            println!("{}", path.display());
            check(&bytes);
        }
    }
}

/// Inputs that no corpus needs, for they are the same for all.
#[test]
fn every_target_takes_empty_short_and_odd_inputs() {
    for (name, check) in TARGETS {
        println!("{name}");
        check(b"");
        for byte in 0..=u8::MAX {
            check(&[byte]);
            check(&[byte; 3]);
            check(&[byte; 64]);
        }
    }
}

#[test]
fn targets_programs_and_corpora_are_the_same_list() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len());
    assert_eq!(names(&folder().join("corpus")), targets);
    let programs: BTreeSet<String> = targets.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(names(&folder().join("fuzz_targets")), programs);
    let manifest = std::fs::read_to_string(folder().join("Cargo.toml")).expect("the manifest");
    for name in targets {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let program = folder().join("fuzz_targets").join(format!("{name}.rs"));
        let program = std::fs::read_to_string(program).expect("a program");
        assert!(program.contains(&format!("fuzz_targets::{name}(data)")), "{name}");
    }
}
