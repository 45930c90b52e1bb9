//! The settings, with every default and its reason.

use memory_text::Language;
use serde::{Deserialize, Serialize};

/// How the indexes in this process are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LocalSettings {
    /// Mebibytes that the indexes of all tenants may take together: 1 to 1,048,576. 512: some
    /// 130,000 memories with vectors of 384 dimensions, or 700,000 of words alone. A tenant that is
    /// larger is kept until another one is searched.
    pub memory_mb: u32,
    /// Records of one page of the first read of a tenant: 1 to 1,000. 250: of conversations a page is
    /// some 500 KB with its vectors.
    pub page: u32,
    /// Language of the stemmer and the stop words, as an ISO 639-1 code, or `none`.
    pub language: String,
}

impl Default for LocalSettings {
    fn default() -> Self {
        Self { memory_mb: 512, page: 250, language: "en".to_owned() }
    }
}

pub(super) const LANGUAGE: &str = "language is not one of the known codes, nor `none`";

impl LocalSettings {
    /// All that is wrong with the values, one sentence each; empty when nothing is.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut within = |name: &str, value: u32, high: u32| {
            if !(1..=high).contains(&value) {
                faults.push(format!("{name} lies in 1 to {high}; this is {value}"));
            }
        };
        within("memory_mb", self.memory_mb, 1_048_576);
        within("page", self.page, 1_000);
        if self.language.parse::<Language>().is_err() {
            faults.push(LANGUAGE.to_owned());
        }
        faults
    }

    pub(super) fn most_bytes(&self) -> usize {
        usize::try_from(self.memory_mb).unwrap_or(usize::MAX).saturating_mul(1 << 20)
    }
}
