//! The second stage as a caller sees it: scores, explanations, notes, and its absence.

use std::sync::Arc;

use memory_core::Timestamp;
use memory_core::traits::{HitContext, IndexHit};
use memory_search::{ContextSettings, Limit, SearchRequest, SearchSettings, Signal};
use proptest::prelude::*;

use crate::world::{World, by_both, hit, ids, settings, space};

fn context(session: Option<u64>, author: Option<&str>, day: i64) -> Box<HitContext> {
    Box::new(HitContext {
        session,
        author: author.map(Arc::from),
        occurred_at: Timestamp::from_micros(day * 86_400_000_000).unwrap(),
        importance: None,
        lent: 0.0,
        coverage: Some(0.25),
    })
}

fn with(name: &str, score: f64, context: Box<HitContext>) -> IndexHit {
    IndexHit { context: Some(context), ..hit(name, 1, score) }
}

fn asked(text: &str) -> SearchRequest {
    SearchRequest::new().with_text(text).with_vector(space(), vec![1.0, 0.0])
}

/// Bob's turn is the best by words, Ada's the second; both in one conversation, a fact in none.
fn world() -> World {
    let world = World { co_located: true, ..World::with_rows(&["bob", "ada", "fact"]) };
    world.change(|state| {
        state.keyword = vec![
            with("bob", 4.0, context(Some(1), Some("Bob"), 10)),
            with("ada", 3.0, context(Some(1), Some("Ada"), 20)),
            with("fact", 2.0, context(None, None, 30)),
        ];
    });
    world
}

#[test]
fn the_person_who_is_named_comes_first_and_says_why() {
    let request = asked("What did Ada drink?").with_explain(true);
    let answer = world().search_with(SearchSettings::default(), &request).unwrap();
    assert_eq!(ids(&answer), ["ada", "bob", "fact"]);
    let explanation = answer.hits[0].explanation.as_ref().unwrap();
    let signals: Vec<_> = explanation.context.iter().map(|share| share.signal).collect();
    assert_eq!(signals, [Signal::Base, Signal::Speaker, Signal::Session]);
    for hit in &answer.hits {
        let explanation = hit.explanation.as_ref().unwrap();
        let arms: f64 = explanation.arms.iter().map(|share| share.contribution).sum();
        let context: f64 = explanation.context.iter().map(|share| share.contribution).sum();
        assert!((arms + context - hit.score).abs() < 1e-9, "{explanation:?}");
    }
    // Nobody is named: the best by words stays the best.
    let answer = world().search_with(SearchSettings::default(), &asked("what to drink")).unwrap();
    assert_eq!(ids(&answer), ["bob", "ada", "fact"]);
}

#[test]
fn where_nothing_is_known_of_the_context_the_fused_scores_stand() {
    let world = World { co_located: true, ..World::with_rows(&["a", "b"]) };
    let world = world.keyword(&[("a", 4.0), ("b", 2.0)]).vector(&[("b", 0.9), ("a", 0.1)]);
    let request = asked("What did Ada drink in May 2023?").with_explain(true);
    let on = world.search_with(SearchSettings::default(), &request).unwrap();
    let none = SearchSettings::default().with_context(ContextSettings::none());
    assert_eq!(on, world.search_with(none, &request).unwrap());
    assert!(on.hits.iter().all(|hit| hit.explanation.as_ref().unwrap().context.is_empty()));
}

#[test]
fn many_candidates_are_asked_for_only_where_they_cost_nothing() {
    let near = world();
    near.search_with(SearchSettings::default(), &by_both()).unwrap();
    assert_eq!(near.look(|state| state.keyword_calls.clone()), [100]);
    let far = World { co_located: false, ..world() };
    far.search_with(SearchSettings::default(), &by_both()).unwrap();
    assert_eq!(far.look(|state| state.keyword_calls.clone()), [50]);
}

#[test]
fn an_answer_below_the_least_relevance_has_no_hits_and_a_note() {
    let settings = SearchSettings::default();
    let request = asked("what to drink");
    let known = world().search_with(settings, &request).unwrap().relevance.unwrap();
    assert!((0.0..=1.0).contains(&known));
    let strict = request.clone().with_min_relevance(Some(known + 1e-9));
    let answer = world().search_with(settings, &strict).unwrap();
    assert!(answer.hits.is_empty() && answer.relevance == Some(known));
    assert!(answer.notes.concat().contains("nothing relevant"), "{:?}", answer.notes);
    // The same by the settings, and a request beats them.
    let all = settings.with_min_relevance(Some(1.0));
    assert!(world().search_with(all, &request).unwrap().hits.is_empty());
    let lax = request.with_min_relevance(Some(known));
    let answer = world().search_with(all, &lax).unwrap();
    assert_eq!(answer.hits.len(), 3);
    assert!(answer.notes.is_empty(), "{:?}", answer.notes);
    // What cannot be told is not held against an answer.
    let untold = World::with_rows(&["a"]).keyword(&[("a", 1.0)]);
    let by_words = SearchRequest::new().with_text("tea").with_min_relevance(Some(1.0));
    let answer = untold.search_with(settings, &by_words).unwrap();
    assert_eq!((answer.hits.len(), answer.relevance), (1, None));
    assert!(answer.notes.concat().contains("cannot be told"), "{:?}", answer.notes);
}

fn hits() -> impl Strategy<Value = Vec<IndexHit>> {
    let session = proptest::option::of(0_u64..3);
    let author = proptest::option::of(prop_oneof![Just("Ada"), Just("Bob Lee"), Just("Cy")]);
    let one = (0.0..9.0_f64, proptest::bool::weighted(0.9), session, author, 19_000_i64..19_600);
    proptest::collection::btree_map(0_u8..40, one, 0..30).prop_map(|hits| {
        let mut hits: Vec<_> = hits
            .into_iter()
            .map(|(name, (score, known, session, author, day))| {
                let name = format!("m{name:02}");
                match known {
                    true => with(&name, score, context(session, author, day)),
                    false => hit(&name, 1, score),
                }
            })
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits
    })
}

proptest! {
    #[test]
    fn scores_stay_in_bounds_add_up_and_come_out_the_same(
        keyword in hits(),
        vector in hits(),
        text in prop_oneof![
            Just("What did Ada tell Bob in May 2022?"),
            Just("when did Zoe go"),
            Just("On 7 June?"),
        ],
        weights in proptest::array::uniform6(0.0..3.0_f64),
        off in proptest::bool::ANY,
    ) {
        let names: Vec<String> = (0..40).map(|at| format!("m{at:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let world = World { co_located: true, ..World::with_rows(&names) };
        world.change(|state| (state.keyword, state.vector) = (keyword, vector));
        let mut context = ContextSettings::none();
        if !off {
            [context.base, context.speaker, context.date, context.session, context.importance,
             context.recency] = weights;
        }
        let settings = settings().with_context(context);
        let request = asked(text).with_limit(Limit::Count(40)).with_explain(true);
        let answer = world.search_with(settings, &request).unwrap();
        prop_assert!(answer.hits.is_sorted_by(|a, b| a.score >= b.score));
        for hit in &answer.hits {
            prop_assert!(hit.score.is_finite() && (0.0..=1.0).contains(&hit.score));
            let why = hit.explanation.as_ref().unwrap();
            prop_assert!(!off || why.context.is_empty());
            prop_assert!(why.context.iter().all(|share| (0.0..=1.0).contains(&share.strength)));
            let sum: f64 = why.arms.iter().map(|share| share.contribution).sum::<f64>()
                + why.context.iter().map(|share| share.contribution).sum::<f64>();
            prop_assert!((sum - hit.score).abs() < 1e-9);
        }
        prop_assert_eq!(world.search_with(settings, &request).unwrap(), answer);
    }
}
