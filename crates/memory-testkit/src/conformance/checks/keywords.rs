//! Keyword search: what is there now, by its own words and its own tenant's statistics.
//!
//! The words are ones that no stop list drops and that no stemmer makes alike.

use memory_core::limits::SEARCH_TEXT_BYTES;
use memory_core::traits::{IndexHit, KeywordEntry, KeywordQuery, UpsertOutcome};
use memory_core::{CallContext, ErrorKind, Field, Filter, MemoryId, Precondition, UserId};

use crate::conformance::bench::{Bench, item, memory_ids, tenant};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

async fn put(b: &Bench, ctx: &CallContext, id: &str, text: &str) -> CheckResult {
    b.put(ctx, item(id, text, b.now())?).await?;
    Ok(())
}

async fn search(b: &Bench, ctx: &CallContext, query: &KeywordQuery) -> CheckResult<Vec<IndexHit>> {
    Ok(b.keywords()?.search(ctx, query).await?.hits)
}

/// The ids that a text finds, in byte order.
async fn found(b: &Bench, text: &str) -> CheckResult<Vec<String>> {
    let hits = search(b, &b.ctx, &KeywordQuery::new(text, 100)).await?;
    let mut ids: Vec<_> = hits.iter().map(|hit| hit.id.to_string()).collect();
    ids.sort();
    Ok(ids)
}

/// Ids with their scores, for comparing answers over time.
async fn scores(b: &Bench, text: &str) -> CheckResult<Vec<(String, f64)>> {
    let hits = search(b, &b.ctx, &KeywordQuery::new(text, 100)).await?;
    Ok(hits.iter().map(|hit| (hit.id.to_string(), hit.score)).collect())
}

fn same_scores(left: &[(String, f64)], right: &[(String, f64)]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-6 * a.1.abs().max(1e-3))
}

/// An item is found by each of its words, in any case, and by no other.
pub(crate) async fn items_are_found_by_their_words(b: &Bench) -> CheckResult {
    put(b, &b.ctx, "a", "The Zebra, by lantern light; QUARTZ 42!").await?;
    put(b, &b.ctx, "b", "a violin in the harbor").await?;
    for word in ["zebra", "Zebra", "ZEBRA", "lantern", "quartz", "42", "zebra lantern"] {
        ensure_eq!(found(b, word).await?, ["a"], "by {word}");
    }
    ensure_eq!(found(b, "violin").await?, ["b"], "by another's word");
    ensure_eq!(found(b, "zebra violin").await?, ["a", "b"], "by words of both");
    for word in ["walnut", "zeb", "zebraz", "4", "421"] {
        ensure!(found(b, word).await?.is_empty(), "{word} finds something");
    }
    let hits = search(b, &b.ctx, &KeywordQuery::new("quartz", 1)).await?;
    let got = b.there(b.get(&b.ctx, "a").await?)?;
    ensure_eq!(Some(&hits[0].revision), got.revision.as_ref(), "the revision of the hit");
    Ok(())
}

/// After an update the old words find nothing, and the new ones do.
pub(crate) async fn updates_change_the_words(b: &Bench) -> CheckResult {
    put(b, &b.ctx, "a", "zebra lantern").await?;
    put(b, &b.ctx, "b", "zebra violin").await?;
    ensure_eq!(found(b, "lantern").await?, ["a"], "by the old word, before");
    put(b, &b.ctx, "a", "zebra quartz").await?;
    ensure!(found(b, "lantern").await?.is_empty(), "the old word finds the item");
    ensure_eq!(found(b, "quartz").await?, ["a"], "by the new word");
    ensure_eq!(found(b, "zebra").await?, ["a", "b"], "by the word of both texts");
    let hits = search(b, &b.ctx, &KeywordQuery::new("quartz", 1)).await?;
    let got = b.there(b.get(&b.ctx, "a").await?)?;
    ensure_eq!(Some(&hits[0].revision), got.revision.as_ref(), "the revision of the hit");
    Ok(())
}

/// A deleted item is not found by its words, and is again when it comes back.
pub(crate) async fn deleted_words_find_nothing(b: &Bench) -> CheckResult {
    put(b, &b.ctx, "a", "zebra lantern").await?;
    put(b, &b.ctx, "b", "zebra violin").await?;
    ensure_eq!(found(b, "zebra").await?, ["a", "b"], "before");
    b.delete(&b.ctx, "a", Precondition::Any).await?;
    ensure_eq!(found(b, "zebra").await?, ["b"], "after");
    ensure!(found(b, "lantern").await?.is_empty(), "the deleted item's own word");
    put(b, &b.ctx, "a", "meadow").await?;
    ensure_eq!(found(b, "meadow").await?, ["a"], "created again");
    ensure!(found(b, "lantern").await?.is_empty(), "its old word after that");
    Ok(())
}

/// An expired item is not found from its instant on, swept or not.
pub(crate) async fn expired_words_find_nothing(b: &Bench) -> CheckResult {
    for n in 0..5 {
        let mut one = item(&format!("short {n}"), "zebra zebra", b.now())?;
        one.expires_at = Some(b.now().saturating_add(std::time::Duration::from_secs(5)));
        b.put(&b.ctx, one).await?;
    }
    put(b, &b.ctx, "long", "a zebra among many other things in the harbor").await?;
    let query = KeywordQuery::new("zebra", 1);
    let before = search(b, &b.ctx, &query).await?;
    ensure!(before[0].id.as_str().starts_with("short"), "the better hit before");
    b.advance_secs(5);
    ensure_eq!(found(b, "zebra").await?, ["long"], "at the instant");
    ensure_eq!(search(b, &b.ctx, &query).await?.len(), 1, "the limit is filled");
    b.records().sweep_expired(&b.ctx, 100).await?;
    ensure_eq!(found(b, "zebra").await?, ["long"], "after the sweep");
    Ok(())
}

/// A filter chooses what may be found, and the answer fills up to its limit from what passes.
pub(crate) async fn keyword_search_fills_up_under_a_filter(b: &Bench) -> CheckResult {
    for n in 0..40 {
        let text = if n < 35 { "zebra zebra zebra" } else { "a zebra seen from afar at night" };
        let mut one = item(&format!("{n:02}"), text, b.now())?;
        if n >= 35 {
            one.user_id = Some(UserId::new("bob")?);
        }
        b.put(&b.ctx, one).await?;
    }
    let bobs = KeywordQuery::new("zebra", 3).with_filter(Filter::eq(Field::UserId, "bob"));
    let hits = search(b, &b.ctx, &bobs).await?;
    ensure_eq!(hits.len(), 3, "hits under a filter");
    ensure!(hits.iter().all(|hit| hit.id.as_str() >= "35"), "a hit that does not pass");
    let all = KeywordQuery::new("zebra", 100).with_filter(Filter::eq(Field::UserId, "bob"));
    ensure_eq!(search(b, &b.ctx, &all).await?.len(), 5, "all that pass");
    ensure_eq!(search(b, &b.ctx, &KeywordQuery::new("zebra", 7)).await?.len(), 7, "a limit");
    Ok(())
}

/// Texts without a word find nothing, and texts full of operators are words like any other.
pub(crate) async fn search_texts_have_no_syntax(b: &Bench) -> CheckResult {
    put(b, &b.ctx, "a", "zebra lantern").await?;
    put(b, &b.ctx, "b", "violin").await?;
    for text in ["", " ", "!?", "\"", "'", "*", "%", "()", "\n", "- -", ":", "^"] {
        ensure!(found(b, text).await?.is_empty(), "{text:?} finds something");
    }
    for text in [
        "zebra*",
        "\"zebra\"",
        "zebra\"",
        "(zebra",
        "zebra) OR (",
        "-zebra",
        "+zebra",
        "^zebra",
        "zebra:",
        "{zebra}",
        "zebra'; DROP TABLE x --",
        "zebra \\",
        "%zebra%",
        "zebra ~2",
        "zebra\tzebra",
        "@zebra",
        "zebra|",
    ] {
        ensure_eq!(found(b, text).await?, ["a"], "by {text:?}");
    }
    Ok(())
}

/// More of the words, and rarer ones, make a better hit; scores fall and are not negative.
pub(crate) async fn better_matches_come_first(b: &Bench) -> CheckResult {
    for n in 0..10 {
        put(b, &b.ctx, &format!("common {n}"), "zebra meadow harbor").await?;
    }
    put(b, &b.ctx, "rare", "quartz meadow harbor").await?;
    put(b, &b.ctx, "both", "zebra quartz harbor").await?;
    let hits = search(b, &b.ctx, &KeywordQuery::new("zebra quartz", 100)).await?;
    ensure_eq!(hits.len(), 12, "hits");
    ensure_eq!(hits[0].id.as_str(), "both", "the item with both words");
    ensure_eq!(hits[1].id.as_str(), "rare", "the item with the rare word");
    ensure!(hits.iter().all(|hit| hit.score >= 0.0), "a negative score");
    let in_order = hits.windows(2).all(|two| {
        two[0].score > two[1].score || (two[0].score == two[1].score && two[0].id < two[1].id)
    });
    ensure!(in_order, "the hits are not best first, ties by id");
    Ok(())
}

/// An explanation names the words and adds up to the score.
pub(crate) async fn explanations_add_up(b: &Bench) -> CheckResult {
    put(b, &b.ctx, "a", "zebra lantern zebra").await?;
    put(b, &b.ctx, "b", "lantern violin").await?;
    let query = KeywordQuery::new("zebra lantern walnut", 10);
    let plain = search(b, &b.ctx, &query).await?;
    ensure!(plain.iter().all(|hit| hit.terms.is_empty()), "an explanation nobody asked for");
    let explained = search(b, &b.ctx, &query.with_explain(true)).await?;
    ensure_eq!(explained.len(), 2, "hits");
    for (hit, words) in explained.iter().zip([2, 1]) {
        ensure_eq!(hit.terms.len(), words, "the words of {}", hit.id);
        let sum: f64 = hit.terms.iter().map(|term| term.score).sum();
        ensure!((sum - hit.score).abs() < 1e-6, "{sum} is not the score {}", hit.score);
    }
    Ok(())
}

/// Other tenants' items are not found and do not move scores.
pub(crate) async fn statistics_are_the_tenants_own(b: &Bench) -> CheckResult {
    let other = tenant("acme2")?;
    put(b, &b.ctx, "a", "zebra lantern").await?;
    put(b, &b.ctx, "b", "zebra violin harbor").await?;
    let before = scores(b, "zebra lantern").await?;
    ensure_eq!(before.len(), 2, "hits before");
    for n in 0..50 {
        put(b, &other, &format!("{n}"), "lantern lantern in a long text about nothing").await?;
    }
    let after = scores(b, "zebra lantern").await?;
    ensure!(same_scores(&before, &after), "{before:?} became {after:?}");
    let theirs = search(b, &other, &KeywordQuery::new("lantern", 100)).await?;
    ensure_eq!(theirs.len(), 50, "their hits");
    let none = search(b, &other, &KeywordQuery::new("violin", 100)).await?;
    ensure!(none.is_empty(), "they find our word");
    Ok(())
}

/// Items that came and went leave no trace in the scores.
pub(crate) async fn statistics_forget_what_is_gone(b: &Bench) -> CheckResult {
    put(b, &b.ctx, "a", "zebra lantern").await?;
    put(b, &b.ctx, "b", "zebra violin harbor").await?;
    let before = scores(b, "zebra lantern").await?;
    for n in 0..30 {
        put(b, &b.ctx, &format!("passing {n}"), "lantern meadow").await?;
    }
    put(b, &b.ctx, "b", "quartz").await?;
    let between = scores(b, "zebra lantern").await?;
    ensure!(!same_scores(&before, &between), "thirty items do not move the scores");
    for n in 0..30 {
        b.delete(&b.ctx, &format!("passing {n}"), Precondition::Any).await?;
    }
    put(b, &b.ctx, "b", "zebra violin harbor").await?;
    let after = scores(b, "zebra lantern").await?;
    ensure!(same_scores(&before, &after), "{before:?} became {after:?}");
    Ok(())
}

/// Limits, filters and sizes are refused; the largest text is taken.
pub(crate) async fn keyword_search_is_bounded(b: &Bench) -> CheckResult {
    put(b, &b.ctx, "a", "zebra").await?;
    let index = b.keywords()?;
    for limit in [0, 1_001, 1_000_000_000] {
        let answer = index.search(&b.ctx, &KeywordQuery::new("zebra", limit)).await;
        refused("a limit of a search", answer, ErrorKind::InvalidInput)?;
    }
    let words = "zebra ".repeat(SEARCH_TEXT_BYTES / 6);
    let answer = index.search(&b.ctx, &KeywordQuery::new(format!("{words}zebra"), 1)).await;
    refused("a text beyond the limit", answer, ErrorKind::InvalidInput)?;
    let bad = KeywordQuery::new("zebra", 1).with_filter(Filter::eq(Field::UserId, 1));
    refused("a malformed filter", index.search(&b.ctx, &bad).await, ErrorKind::InvalidInput)?;
    ensure_eq!(found(b, &words).await?, ["a"], "by the longest text");
    Ok(())
}

/// An upsert tells what has moved on; a co-located index refuses a removal as unsupported.
pub(crate) async fn keyword_upserts_know_their_revision(b: &Bench) -> CheckResult {
    let index = b.keywords()?;
    let old = b.put(&b.ctx, item("a", "zebra", b.now())?).await?;
    let now = b.put(&b.ctx, item("a", "lantern", b.now())?).await?;
    let entry = |id: &str, revision: &memory_core::Revision| -> CheckResult<KeywordEntry> {
        let (id, revision) = (MemoryId::new(id)?, revision.clone());
        Ok(KeywordEntry { id, revision, text: "lantern".to_owned() })
    };
    let entries = vec![entry("a", &old)?, entry("a", &now)?, entry("no", &now)?];
    let outcomes = index.upsert(&b.ctx, &entries).await?;
    use UpsertOutcome::{Stale, Stored};
    ensure_eq!(outcomes, [Stale, Stored, Stale], "the outcomes");
    let answer = index.upsert(&b.ctx, &vec![entry("a", &now)?; 1_001]).await;
    refused("1,001 entries", answer, ErrorKind::InvalidInput)?;
    let answer = index.remove(&b.ctx, &memory_ids(&["a"])?).await;
    refused("a removal", answer, ErrorKind::Unsupported)?;
    ensure_eq!(found(b, "lantern").await?, ["a"], "after all that");
    ensure!(found(b, "zebra").await?.is_empty(), "the old word finds the item");
    Ok(())
}

/// A search sees every commit that was acknowledged before it, up to the position it names.
pub(crate) async fn keyword_search_reaches_a_position(b: &Bench) -> CheckResult {
    for n in 0..20 {
        let write = memory_core::Write::put(
            item(&format!("{n:02}"), "zebra", b.now())?,
            memory_core::Vectors::default(),
            Precondition::Any,
        );
        let receipt = b.commit(&b.ctx, vec![write]).await?;
        ensure_eq!(found(b, "zebra").await?.len(), n + 1, "hits at once");
        let query = KeywordQuery::new("zebra", 100).with_at_least(receipt.position);
        ensure_eq!(search(b, &b.ctx, &query).await?.len(), n + 1, "hits at the position");
    }
    Ok(())
}
