//! Caches that do one thing wrong. Each has to be found by a run.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{Cache, CacheFill, CacheKey, CacheRead, CacheWrite};
use memory_core::{CallContext, Health, Result};

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A value is kept whatever its reader saw.
    FillWithoutToken,
    /// Tokens are replaced before the commit and not after it.
    OnlyBefore,
    /// Writes do not touch conversations.
    HistoryUntouched,
}

impl Wrong {
    pub(crate) const ALL: [Self; 3] =
        [Self::FillWithoutToken, Self::OnlyBefore, Self::HistoryUntouched];

    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FillWithoutToken => "fill_without_token",
            Self::OnlyBefore => "only_before",
            Self::HistoryUntouched => "history_untouched",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|wrong| wrong.name() == name)
    }
}

/// A cache that does it.
#[derive(Debug)]
pub(crate) struct WrongCache {
    pub(crate) inner: Arc<dyn Cache>,
    pub(crate) wrong: Wrong,
}

/// How long what it keeps lasts.
const LIFE: Duration = Duration::from_mins(1);

#[async_trait]
impl Cache for WrongCache {
    async fn read(
        &self,
        context: &CallContext,
        keys: &[CacheKey],
        life: Duration,
    ) -> Result<Vec<CacheRead>> {
        self.inner.read(context, keys, life).await
    }

    async fn fill(&self, context: &CallContext, mut fills: Vec<CacheFill>) -> Result<Vec<bool>> {
        if self.wrong == Wrong::FillWithoutToken {
            let keys: Vec<_> = fills.iter().map(|fill| fill.key.clone()).collect();
            let reads = self.inner.read(context, &keys, LIFE).await?;
            for (fill, read) in fills.iter_mut().zip(reads) {
                if let CacheRead::Miss(token) = read {
                    fill.token = token;
                }
            }
        }
        self.inner.fill(context, fills).await
    }

    async fn begin_write(
        &self,
        context: &CallContext,
        mut groups: Vec<String>,
        most: Duration,
    ) -> Result<CacheWrite> {
        if self.wrong == Wrong::HistoryUntouched {
            groups.retain(|group| !group.starts_with('h'));
        }
        let write = self.inner.begin_write(context, groups, most).await?;
        if self.wrong == Wrong::OnlyBefore {
            self.inner.end_write(context, write.clone(), LIFE).await?;
        }
        Ok(write)
    }

    async fn end_write(
        &self,
        context: &CallContext,
        mut write: CacheWrite,
        life: Duration,
    ) -> Result<()> {
        match self.wrong {
            Wrong::OnlyBefore => return Ok(()),
            Wrong::HistoryUntouched => write.groups.retain(|group| !group.starts_with('h')),
            Wrong::FillWithoutToken => {}
        }
        self.inner.end_write(context, write, life).await
    }

    async fn health(&self) -> Health {
        self.inner.health().await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
