//! Projections: a read brings what was asked for and nothing that was not.

use std::collections::BTreeMap;

use memory_core::{
    MemoryItem, MetaKey, Precondition, Projection, Query, VectorProjection, Vectors, Write,
};
use serde_json::json;

use super::vectors::{spaces, two_spaces};
use crate::conformance::bench::{Bench, item, memory_ids};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq};

async fn both_reads(b: &Bench, projection: &Projection) -> CheckResult<[MemoryItem; 2]> {
    let found = b.records().fetch(&b.ctx, &memory_ids(&["a"])?, projection).await?;
    let query = Query::new(1).with_projection(projection.clone());
    let page = b.records().query(&b.ctx, &query).await?;
    Ok([b.there(found.into_iter().next().flatten())?, b.there(page.items.into_iter().next())?])
}

/// Each part alone is there when asked for and empty when not; everything else is always there.
pub(crate) async fn projections_bring_what_was_asked_for(b: &Bench) -> CheckResult {
    let mut full = item("a", "the text", b.now())?;
    full.payload = Some(json!({"x": 1}));
    full.metadata.insert(MetaKey::new("text")?, "y".into());
    full.importance = Some(0.5);
    full.author = Some("Ada".to_owned());
    full.expires_at = Some(b.now().saturating_add(std::time::Duration::from_secs(9)));
    full.revision = Some(b.put(&b.ctx, full.clone()).await?);
    for bits in 0..8_u8 {
        let mut projection = Projection::full();
        projection.content = bits & 1 > 0;
        projection.payload = bits & 2 > 0;
        projection.metadata = bits & 4 > 0;
        for got in both_reads(b, &projection).await? {
            let text = if projection.content { "the text" } else { "" };
            ensure_eq!(got.content(), text, "the content under {projection:?}");
            ensure_eq!(got.content_hash(), full.content_hash(), "the hash under {projection:?}");
            ensure_eq!(got.payload.is_some(), projection.payload, "the payload");
            ensure_eq!(got.metadata.len(), usize::from(projection.metadata), "the metadata");
            ensure!(got.vectors.is_empty(), "vectors that nobody asked for");
            ensure_eq!(
                (&got.id, &got.user_id, &got.kind, &got.author, &got.revision),
                (&full.id, &full.user_id, &full.kind, &full.author, &full.revision),
                "the rest"
            );
            ensure_eq!(
                (got.importance, got.occurred_at, got.expires_at),
                (full.importance, full.occurred_at, full.expires_at),
                "the rest"
            );
        }
    }
    ensure_eq!(both_reads(b, &Projection::full()).await?, [full.clone(), full], "the whole item");
    Ok(())
}

/// Vectors come when asked for: none, those of one space, or all, to the last bit.
pub(crate) async fn vectors_come_when_asked_for(b: &Bench) -> CheckResult {
    let (one, other) = two_spaces()?;
    spaces(b, &b.ctx, Some(&one), Some(&other)).await?;
    let tiny = vec![f32::MIN_POSITIVE, -0.0, 1.0 / 3.0];
    let vectors = BTreeMap::from([(one.id(), vec![0.1, -2.5, 3e7]), (other.id(), tiny.clone())]);
    let write =
        Write::put(item("a", "x", b.now())?, Vectors::Replace(vectors.clone()), Precondition::Any);
    b.commit(&b.ctx, vec![write]).await?;
    let projected = |vectors| Projection::narrow().with_vectors(vectors);
    for got in both_reads(b, &projected(VectorProjection::None)).await? {
        ensure!(got.vectors.is_empty(), "vectors that nobody asked for");
    }
    for got in both_reads(b, &projected(VectorProjection::All)).await? {
        ensure_eq!(got.vectors, vectors, "all vectors");
    }
    for got in both_reads(b, &projected(VectorProjection::Space(other.id()))).await? {
        ensure_eq!(got.vectors.len(), 1, "the vectors of one space");
        let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let kept = got.vectors.get(&other.id()).map(|vector| bits(vector));
        ensure_eq!(kept, Some(bits(&tiny)), "the bits of the vector");
    }
    let unknown = VectorProjection::Space(memory_core::SpaceId::new("no such")?);
    for got in both_reads(b, &projected(unknown)).await? {
        ensure!(got.vectors.is_empty(), "a space that nobody has brings vectors");
    }
    Ok(())
}
