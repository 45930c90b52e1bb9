//! `--metrics` and `--otlp`: the figures of a command, as Prometheus text or to a collector, where
//! the build has it.

use std::path::PathBuf;

use orchestra_memory::MemoryBuilder;
#[cfg(feature = "prometheus")]
use orchestra_memory::memory_layers::Prometheus;
#[cfg(feature = "otlp")]
use orchestra_memory::memory_layers::{Otlp, OtlpSettings};

use crate::failure::Result;

/// What keeps the figures, and where they go. The command line allows one of the two.
pub(crate) struct Metrics {
    #[cfg(feature = "prometheus")]
    text: Option<(PathBuf, Prometheus)>,
    #[cfg(feature = "otlp")]
    sent: Option<Otlp>,
}

impl Metrics {
    /// Keeps figures if there is a place for them: a file, or a collector.
    ///
    /// # Errors
    /// `Config`: they cannot be kept, or no request can go to the collector. `Unsupported`: this
    /// build keeps none.
    #[cfg_attr(
        not(all(feature = "prometheus", feature = "otlp")),
        allow(clippy::needless_pass_by_value, reason = "as where it is kept")
    )]
    pub(crate) fn new(path: Option<PathBuf>, collector: Option<String>) -> Result<Self> {
        #[cfg(not(feature = "prometheus"))]
        absent(path.is_some(), "--metrics", "prometheus")?;
        #[cfg(not(feature = "otlp"))]
        absent(collector.is_some(), "--otlp", "otlp")?;
        Ok(Self {
            #[cfg(feature = "prometheus")]
            text: match path {
                Some(path) => Some((path, Prometheus::new()?)),
                None => None,
            },
            #[cfg(feature = "otlp")]
            sent: match collector {
                Some(collector) => Some(Otlp::start(&to(collector))?),
                None => None,
            },
        })
    }

    /// Has the figures of a memory kept.
    pub(crate) fn of(&self, builder: MemoryBuilder) -> MemoryBuilder {
        #[cfg(feature = "prometheus")]
        if let Some((_, kept)) = &self.text {
            return builder.recorder(std::sync::Arc::new(kept.clone()));
        }
        #[cfg(feature = "otlp")]
        if let Some(sent) = &self.sent {
            return builder.recorder(sent.recorder());
        }
        builder
    }

    /// Writes or sends them. Sending takes some seconds at the most.
    ///
    /// # Errors
    /// That of the file; `Unavailable`: the collector did not take them.
    #[cfg_attr(
        not(any(feature = "prometheus", feature = "otlp")),
        expect(clippy::unnecessary_wraps, reason = "as where there is something to write")
    )]
    pub(crate) fn write(&self) -> Result<()> {
        #[cfg(feature = "prometheus")]
        if let Some((path, kept)) = &self.text {
            let text = kept.render();
            if path.as_os_str() == "-" {
                crate::output::complain(text.trim_end());
            } else {
                std::fs::write(path, text).map_err(|error| {
                    crate::failure::Failure::file("cannot write the figures", error)
                })?;
            }
        }
        #[cfg(feature = "otlp")]
        if let Some(sent) = &self.sent {
            sent.close()?;
        }
        Ok(())
    }
}

/// The settings of a collector, whose other values are the defaults.
#[cfg(feature = "otlp")]
fn to(collector: String) -> OtlpSettings {
    let mut settings = OtlpSettings::default();
    settings.endpoint = collector;
    settings
}

/// Refuses an argument of a feature that is not there.
#[cfg(not(all(feature = "prometheus", feature = "otlp")))]
fn absent(given: bool, argument: &str, feature: &str) -> Result<()> {
    if !given {
        return Ok(());
    }
    Err(orchestra_memory::Error::unsupported(format!(
        "`{argument}` needs the feature `{feature}`, which this build was made without"
    ))
    .into())
}
