//! The second stage: what conversations tell of the candidates is added to their fused scores.
//! Pure arithmetic; [`ContextSettings`] states the rule.

use std::borrow::Cow;
use std::collections::HashMap;

use memory_core::traits::{HitContext, goes_by};
use memory_text::question::{PartialDate, dates, names};

use crate::answer::{Signal, SignalShare};
use crate::context_settings::ContextSettings;
use crate::fusion::{Fused, best_first};

const DAY_MICROS: i64 = 86_400_000_000;

/// What a question tells of the memories that answer it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Question {
    /// The names in it, in its order.
    names: Vec<String>,
    dates: Vec<PartialDate>,
}

impl Question {
    pub(crate) fn of(text: &str) -> Self {
        Self {
            names: names(text).into_iter().map(str::to_owned).collect(),
            dates: dates(text).into_iter().map(|mention| mention.date).collect(),
        }
    }
}

/// What the signals made of one score.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Signals {
    /// What the contributions of the arms are multiplied by.
    pub(crate) scale: f64,
    /// The signals that counted for the answer, in the order of [`Signal`].
    pub(crate) shares: Vec<SignalShare>,
}

/// The signals that have anything to say of some candidates.
#[derive(Clone, Debug)]
pub(crate) struct Active<'a> {
    settings: &'a ContextSettings,
    /// The name of the person whose words count more.
    speaker: Option<&'a str>,
    dates: &'a [PartialDate],
    importance: bool,
    /// The time of the newest candidate, in microseconds.
    newest: Option<i64>,
    session: bool,
}

impl<'a> Active<'a> {
    /// `None` where none has: the fused scores stand.
    pub(crate) fn of<'c>(
        question: &'a Question,
        settings: &'a ContextSettings,
        contexts: &(impl Iterator<Item = &'c HitContext> + Clone),
    ) -> Option<Self> {
        let known = |name: &&String| {
            contexts.clone().any(|context| {
                context.author.as_deref().is_some_and(|author| goes_by(author, name))
            })
        };
        let speaker = match settings.speaker > 0.0 {
            true => question.names.iter().find(known).map(String::as_str),
            false => None,
        };
        let near = |context: &HitContext| nearness(&question.dates, settings, context) > 0.0;
        let dated = settings.date > 0.0 && contexts.clone().any(near);
        let active = Self {
            settings,
            speaker,
            dates: if dated { &question.dates } else { &[] },
            importance: settings.importance > 0.0
                && contexts.clone().any(|context| context.importance.is_some()),
            newest: match settings.recency > 0.0 {
                true => contexts.clone().map(|context| context.occurred_at.as_micros()).max(),
                false => None,
            },
            session: settings.session > 0.0
                && contexts.clone().any(|context| context.session.is_some()),
        };
        let any = active.speaker.is_some()
            || dated
            || active.importance
            || active.newest.is_some()
            || active.session;
        any.then_some(active)
    }

    /// Gives each candidate its score, and puts them in order. `contexts` stands beside `fused`;
    /// `explain`: the shares are kept.
    pub(crate) fn rank(
        &self,
        fused: Vec<Fused>,
        contexts: &[Option<Cow<'_, HitContext>>],
        explain: bool,
    ) -> Vec<Fused> {
        let multiply = self.signals();
        let strengths: Vec<[f64; 4]> =
            contexts.iter().map(|context| self.strengths(&multiply, context.as_deref())).collect();
        let settings = self.settings;
        let weights: f64 = multiply.iter().map(|(_, weight)| weight).sum();
        let boosted = |fused: &Fused, strengths: &[f64]| {
            let boosts: f64 = multiply
                .iter()
                .zip(strengths)
                .map(|((_, weight), strength)| weight * strength)
                .sum();
            (fused.score + settings.base) * (1.0 + boosts)
        };
        let mut best: HashMap<u64, f64> = HashMap::new();
        if self.session {
            for (at, item) in fused.iter().enumerate() {
                if let Some(session) = contexts[at].as_ref().and_then(|context| context.session) {
                    let score = boosted(item, &strengths[at]);
                    let best = best.entry(session).or_insert(score);
                    *best = best.max(score);
                }
            }
        }
        let session_weight = if self.session { settings.session } else { 0.0 };
        let highest = (1.0 + settings.base) * (1.0 + weights);
        let whole = highest * (1.0 + session_weight);
        let mut ranked: Vec<Fused> = fused
            .into_iter()
            .enumerate()
            .map(|(at, mut item)| {
                let own = boosted(&item, &strengths[at]);
                let start = item.score + settings.base;
                let session = contexts[at].as_ref().and_then(|context| context.session);
                let best = session.and_then(|session| best.get(&session)).copied().unwrap_or(own);
                item.score = ((own + session_weight * best) / whole).clamp(0.0, 1.0);
                let mut shares = Vec::new();
                if explain {
                    let mut add = |signal, strength, part: f64| {
                        let contribution = part / whole;
                        shares.push(SignalShare { signal, strength, contribution });
                    };
                    if settings.base > 0.0 {
                        add(Signal::Base, 1.0, settings.base);
                    }
                    for ((signal, weight), strength) in multiply.iter().zip(strengths[at]) {
                        add(*signal, strength, start * weight * strength);
                    }
                    if self.session {
                        add(Signal::Session, best / highest, session_weight * best);
                    }
                }
                item.signals = Some(Signals { scale: 1.0 / whole, shares });
                item
            })
            .collect();
        ranked.sort_by(best_first);
        ranked
    }

    /// The signals that multiply, with their weights.
    fn signals(&self) -> Vec<(Signal, f64)> {
        let settings = self.settings;
        [
            (self.speaker.is_some(), Signal::Speaker, settings.speaker),
            (!self.dates.is_empty(), Signal::Date, settings.date),
            (self.importance, Signal::Importance, settings.importance),
            (self.newest.is_some(), Signal::Recency, settings.recency),
        ]
        .into_iter()
        .filter(|(active, ..)| *active)
        .map(|(_, signal, weight)| (signal, weight))
        .collect()
    }

    /// How strongly each of them speaks for an item, in [0, 1].
    fn strengths(&self, multiply: &[(Signal, f64)], context: Option<&HitContext>) -> [f64; 4] {
        let mut strengths = [0.0; 4];
        for (strength, (signal, _)) in strengths.iter_mut().zip(multiply) {
            let found: f64 = match (signal, context) {
                (Signal::Speaker, Some(HitContext { author: Some(author), .. })) => {
                    f64::from(u8::from(self.speaker.is_some_and(|name| goes_by(author, name))))
                }
                // Nobody else's words.
                (Signal::Speaker, _) => 1.0,
                (Signal::Date, Some(context)) => nearness(self.dates, self.settings, context),
                (Signal::Importance, Some(context)) => context.importance.unwrap_or(0.0),
                (Signal::Recency, Some(context)) => self.recency(context),
                _ => 0.0,
            };
            *strength = found.clamp(0.0, 1.0);
        }
        strengths
    }

    #[expect(clippy::cast_precision_loss, reason = "a span of microseconds, of which days count")]
    fn recency(&self, context: &HitContext) -> f64 {
        let newest = self.newest.unwrap_or_default();
        let age = newest.saturating_sub(context.occurred_at.as_micros()).max(0);
        let days = age as f64 / DAY_MICROS as f64;
        (-days / f64::from(self.settings.recency_days)).exp2()
    }
}

fn nearness(dates: &[PartialDate], settings: &ContextSettings, context: &HitContext) -> f64 {
    let day = context.occurred_at.as_micros().div_euclid(DAY_MICROS);
    let near = dates.iter().map(|date| date.nearness(day, settings.date_days));
    near.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use memory_core::{MemoryId, Timestamp};

    use super::*;

    fn fused(items: &[(&str, f64)]) -> Vec<Fused> {
        let item = |&(id, score): &(&str, f64)| Fused {
            id: MemoryId::new(id).unwrap(),
            score,
            parts: [None, None],
            signals: None,
        };
        items.iter().map(item).collect()
    }

    fn context(session: Option<u64>, author: Option<&str>, time: &str) -> HitContext {
        HitContext {
            session,
            author: author.map(Arc::from),
            occurred_at: Timestamp::parse(time).unwrap(),
            importance: None,
            lent: 0.0,
            coverage: None,
        }
    }

    const DAY: &str = "2023-05-07T10:00:00Z";

    fn rank(
        text: &str,
        settings: &ContextSettings,
        items: &[(&str, f64)],
        contexts: &[HitContext],
    ) -> Vec<(String, f64)> {
        let question = Question::of(text);
        let Some(active) = Active::of(&question, settings, &contexts.iter()) else {
            return items.iter().map(|(id, score)| ((*id).to_owned(), *score)).collect();
        };
        let contexts: Vec<_> =
            contexts.iter().map(|context| Some(Cow::Borrowed(context))).collect();
        active
            .rank(fused(items), &contexts, true)
            .into_iter()
            .map(|item| {
                let signals = item.signals.unwrap();
                let sum: f64 = signals.shares.iter().map(|share| share.contribution).sum();
                let (_, own) = items.iter().find(|(id, _)| *id == item.id.as_str()).unwrap();
                assert!((sum + own * signals.scale - item.score).abs() < 1e-12, "{signals:?}");
                (item.id.to_string(), item.score)
            })
            .collect()
    }

    fn close(found: &[(String, f64)], want: &[(&str, f64)]) {
        assert_eq!(found.len(), want.len(), "{found:?}");
        for ((id, score), (want_id, want_score)) in found.iter().zip(want) {
            assert_eq!(id, want_id, "{found:?}");
            assert!((score - want_score).abs() < 1e-12, "{found:?}");
        }
    }

    fn only(change: impl FnOnce(&mut ContextSettings)) -> ContextSettings {
        let mut settings = ContextSettings { base: 0.5, ..ContextSettings::none() };
        change(&mut settings);
        settings
    }

    #[test]
    fn whoever_is_named_first_speaks_and_facts_are_nobody_elses_words() {
        let settings = only(|settings| settings.speaker = 0.5);
        let contexts = [
            context(None, Some("Bob"), DAY),
            context(None, Some("Ada Lovelace"), DAY),
            context(None, None, DAY),
        ];
        let items = [("bob", 0.5), ("ada", 0.3), ("fact", 0.25)];
        // (f + .5) * 1.5 for Ada and for nobody, at most 1.5 * 1.5.
        let want = [("ada", 0.8 / 1.5), ("fact", 0.75 / 1.5), ("bob", 1.0 / 2.25)];
        close(&rank("What did Ada say to Bob?", &settings, &items, &contexts), &want);
        // A name that is nobody's is no reason, nor is a name in small letters.
        close(&rank("What of Zoe?", &settings, &items, &contexts), &items);
        close(&rank("what of ada?", &settings, &items, &contexts), &items);
        // A name that is no author's does not stand before one that is.
        close(&rank("What of Zoe and Ada?", &settings, &items, &contexts), &want);
    }

    #[test]
    fn the_date_that_is_named_counts() {
        let settings = only(|settings| settings.date = 1.0);
        let contexts = [
            context(None, None, "2023-01-01T00:00:00Z"),
            context(None, None, "2023-05-31T23:59:59Z"),
        ];
        let items = [("winter", 0.5), ("spring", 0.25)];
        let want = [("spring", 0.75 * 2.0 / 3.0), ("winter", 1.0 / 3.0)];
        close(&rank("What was in May 2023?", &settings, &items, &contexts), &want);
        close(&rank("What was in May 2021?", &settings, &items, &contexts), &items);
        close(&rank("What was it?", &settings, &items, &contexts), &items);
    }

    #[test]
    fn a_conversation_is_as_good_as_its_best_and_whoever_has_none_is_one() {
        let settings = only(|settings| settings.session = 0.5);
        let contexts = [
            context(Some(1), None, DAY),
            context(Some(2), None, DAY),
            context(Some(1), None, DAY),
            context(None, None, DAY),
        ];
        let items = [("a", 1.0), ("b", 0.5), ("c", 0.45), ("d", 0.5)];
        // s: 1.5, 1, .95, 1; with half of the best: 2.25, 1.5, 1.7, 1.5; at most 2.25.
        let want = [("a", 1.0), ("c", 1.7 / 2.25), ("b", 1.5 / 2.25), ("d", 1.5 / 2.25)];
        close(&rank("what", &settings, &items, &contexts), &want);
    }

    #[test]
    fn importance_and_recency_are_off_until_they_have_a_weight() {
        let mut contexts = [
            context(None, None, "2023-05-01T00:00:00Z"),
            context(None, None, "2023-05-31T00:00:00Z"),
        ];
        contexts[0].importance = Some(1.0);
        let items = [("old", 0.5), ("new", 0.4)];
        close(&rank("what", &ContextSettings::default(), &items, &contexts), &items);
        let settings = only(|settings| settings.importance = 1.0);
        let want = [("old", 2.0 / 3.0), ("new", 0.9 / 3.0)];
        close(&rank("what", &settings, &items, &contexts), &want);
        let settings = only(|settings| settings.recency = 1.0);
        let want = [("new", 1.8 / 3.0), ("old", 1.5 / 3.0)];
        close(&rank("what", &settings, &items, &contexts), &want);
    }
}
