//! `--metrics`: the figures of a command as Prometheus text, where the build has it.

use std::path::PathBuf;

use orchestra_memory::MemoryBuilder;

use crate::failure::Result;

/// What keeps the figures, and where they go.
pub(crate) struct Metrics {
    #[cfg(feature = "prometheus")]
    kept: Option<(PathBuf, orchestra_memory::memory_layers::Prometheus)>,
}

#[cfg(feature = "prometheus")]
impl Metrics {
    /// Keeps figures if there is a place for them.
    ///
    /// # Errors
    /// `Config`: they cannot be kept.
    pub(crate) fn new(path: Option<PathBuf>) -> Result<Self> {
        let keep = |path| Ok((path, orchestra_memory::memory_layers::Prometheus::new()?));
        let kept = path.map(keep).transpose();
        Ok(Self { kept: kept.map_err(|error: orchestra_memory::Error| error)? })
    }

    /// Has the figures of a memory kept.
    pub(crate) fn of(&self, builder: MemoryBuilder) -> MemoryBuilder {
        match &self.kept {
            Some((_, kept)) => builder.recorder(std::sync::Arc::new(kept.clone())),
            None => builder,
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// That of the file.
    pub(crate) fn write(&self) -> Result<()> {
        let Some((path, kept)) = &self.kept else { return Ok(()) };
        let text = kept.render();
        if path.as_os_str() == "-" {
            crate::output::complain(text.trim_end());
            return Ok(());
        }
        std::fs::write(path, text)
            .map_err(|error| crate::failure::Failure::file("cannot write the figures", error))
    }
}

#[cfg(not(feature = "prometheus"))]
impl Metrics {
    /// Takes the place where there is none, as where there is one.
    ///
    /// # Errors
    /// `Unsupported`: there is a place, and this build keeps none.
    #[expect(clippy::needless_pass_by_value, reason = "as where the path is kept")]
    pub(crate) fn new(path: Option<PathBuf>) -> Result<Self> {
        match path {
            None => Ok(Self {}),
            Some(_) => Err(orchestra_memory::Error::unsupported(
                "`--metrics` needs the feature `prometheus`, which this build was made without",
            )
            .into()),
        }
    }

    pub(crate) fn of(&self, builder: MemoryBuilder) -> MemoryBuilder {
        builder
    }

    #[expect(clippy::unnecessary_wraps, reason = "as where there is something to write")]
    pub(crate) fn write(&self) -> Result<()> {
        Ok(())
    }
}
