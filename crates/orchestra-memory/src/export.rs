//! Export: a tenant's memories as the JSON lines that an import reads.

use std::io::Write;

use memory_core::{
    Error, ErrorKind, Filter, Kind, MemoryItem, Metadata, Order, Projection, Query, Result, Role,
    Timestamp, VectorProjection,
};
use serde::Serialize;
use serde_json::Value;

use crate::notify::{Callback, CancelFlag, is_cancelled};
use crate::tenant::TenantMemory;

/// How an export is done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportOptions {
    /// Which memories; all unless set.
    pub filter: Filter,
    /// In which order; by id unless set, the cheapest whole pass and the only one in which a
    /// memory that changes meanwhile appears exactly once.
    pub order: Order,
    /// Whether each line has the memory's vector in the tenant's active space. No unless set.
    pub with_vectors: bool,
    /// Told after each page.
    pub progress: Option<Callback<ExportReport>>,
    /// Looked at before each page.
    pub cancel: Option<CancelFlag>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            filter: Filter::All,
            order: Order::BY_ID,
            with_vectors: false,
            progress: None,
            cancel: None,
        }
    }
}

impl ExportOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets which memories.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets the order.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Sets whether vectors are written.
    #[must_use]
    pub fn with_vectors(mut self, vectors: bool) -> Self {
        self.with_vectors = vectors;
        self
    }

    /// Sets what is told after each page.
    #[must_use]
    pub fn with_progress(mut self, progress: Callback<ExportReport>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Sets the flag that stops the export before the next page.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelFlag) -> Self {
        self.cancel = Some(cancel);
        self
    }
}

/// What an export wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct ExportReport {
    /// Memories written.
    pub items: u64,
    /// Of those, how many with a vector.
    pub vectors: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Whether the caller's flag stopped it.
    pub cancelled: bool,
}

/// The line as it is written; keys in this order, absent ones left out.
#[derive(Serialize)]
struct ExportLine<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    kind: &'a Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a str>,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a Value>,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: &'a Metadata,
    occurred_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    importance: Option<f64>,
    created_at: Timestamp,
    updated_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    embedding: Option<&'a [f32]>,
}

/// A memory as one line of an export, without the end of the line. The numbers of a vector have
/// as many digits as bring back the same `f32`.
///
/// # Errors
/// `Unexpected`: a value that JSON cannot hold.
pub fn export_line(item: &MemoryItem, embedding: Option<&[f32]>) -> Result<String> {
    let line = ExportLine {
        id: item.id.as_str(),
        user_id: item.user_id.as_ref().map(AsRef::as_ref),
        session_id: item.session_id.as_ref().map(AsRef::as_ref),
        agent_id: item.agent_id.as_ref().map(AsRef::as_ref),
        kind: &item.kind,
        role: item.role,
        author: item.author.as_deref(),
        content: item.content(),
        payload: item.payload.as_ref(),
        metadata: &item.metadata,
        occurred_at: item.occurred_at,
        expires_at: item.expires_at,
        importance: item.importance,
        created_at: item.created_at,
        updated_at: item.updated_at,
        embedding,
    };
    serde_json::to_string(&line).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "a memory cannot be written as JSON")
            .with_operation("export")
            .with_source(error)
    })
}

impl TenantMemory {
    /// Writes memories as JSON lines, page by page, and flushes. Revisions, hashes and vectors of
    /// other spaces are left out. It is no snapshot: what is written meanwhile may be in it.
    ///
    /// The target is written on the caller's task: it blocks for as long as the target does.
    ///
    /// # Errors
    /// `InvalidInput`: a malformed filter. `Unavailable`, with the cause as source: the target
    /// cannot be written. Otherwise as every call; what was written before stays.
    pub async fn export<W>(&self, target: &mut W, options: ExportOptions) -> Result<ExportReport>
    where
        W: Write + Send + ?Sized,
    {
        let mut report = ExportReport::default();
        let space = match options.with_vectors {
            true => self.spaces().await?.active.map(|space| space.id()),
            false => None,
        };
        let mut projection = Projection::full();
        if let Some(space) = &space {
            projection = projection.with_vectors(VectorProjection::Space(space.clone()));
        }
        let inner = self.inner();
        let mut query = Query::new(inner.settings.export.page_size)
            .with_filter(options.filter.clone())
            .with_order(options.order)
            .with_projection(projection);
        loop {
            if is_cancelled(options.cancel.as_ref()) {
                report.cancelled = true;
                break;
            }
            let page = inner.backend.records.query(&self.context(None), &query).await?;
            for item in &page.items {
                let vector = space.as_ref().and_then(|space| item.vectors.get(space));
                let line = export_line(item, vector.map(Vec::as_slice))?;
                target.write_all(line.as_bytes()).map_err(target_error)?;
                target.write_all(b"\n").map_err(target_error)?;
                report.items += 1;
                report.vectors += u64::from(vector.is_some());
                report.bytes += line.len() as u64 + 1;
            }
            if let Some(progress) = &options.progress {
                progress.call(&report);
            }
            match page.next {
                Some(next) => query.cursor = Some(next),
                None => break,
            }
        }
        target.flush().map_err(target_error)?;
        Ok(report)
    }
}

fn target_error(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the target of the export cannot be written")
        .with_operation("export")
        .with_retryable(false)
        .with_source(error)
}
