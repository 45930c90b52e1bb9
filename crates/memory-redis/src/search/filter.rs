//! Filters as conditions of the query engine.
//!
//! The engine cannot tell everything apart that the truth table does: its numbers are doubles, its
//! tags lose white space at their ends. So a filter becomes a condition that every passing memory
//! meets ([`Reader::over`]), and where it is negated one that only passing memories meet
//! ([`Reader::under`]): each turns into the other under `not`. Whoever searches holds each hit
//! against the filter itself. Values go as parameters, never as part of the query's text.

use memory_core::{CompareOp, Error, Field, Filter, MemoryId, MetaKey, Result, Scalar};

use super::fields::{self, PRESENT};
use super::schema::{metadata_attribute, tag_attribute, time_attribute};
use crate::fields as f;
use crate::settings::{FilterKeyType, RedisSettings};

/// A condition of the engine's language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Every memory meets it.
    Always,
    /// None does.
    Never,
    /// Those that the query finds.
    Query(String),
}

/// The parameters of a query, by their names.
#[derive(Debug, Default)]
pub(super) struct Parameters(pub(super) Vec<(String, Vec<u8>)>);

impl Parameters {
    /// Adds a value; returns how the query's text names it.
    pub(super) fn add(&mut self, value: impl Into<Vec<u8>>) -> String {
        let name = format!("p{}", self.0.len());
        let reference = format!("${name}");
        self.0.push((name, value.into()));
        reference
    }
}

/// Checks that a filter names declared metadata keys only.
///
/// # Errors
/// `Unsupported`: naming the key.
pub(crate) fn check_declared(settings: &RedisSettings, filter: &Filter) -> Result<()> {
    filter.fields().iter().try_for_each(|field| match field {
        Field::Metadata(key) => declared(settings, key).map(|_| ()),
        _ => Ok(()),
    })
}

fn declared(settings: &RedisSettings, key: &MetaKey) -> Result<(usize, FilterKeyType)> {
    let mut keys = settings.filter_keys.iter().enumerate();
    keys.find(|(_, (known, _))| *known == key).map(|(at, (_, kind))| (at, *kind)).ok_or_else(|| {
        Error::unsupported(format!(
            "filters may name declared metadata keys only, and {:?} is not one: declare it in the \
             setting filter_keys",
            key.as_str()
        ))
    })
}

/// A condition that every memory meets that passes the filter.
///
/// # Errors
/// `Unsupported`: an undeclared metadata key.
pub(super) fn necessary(
    settings: &RedisSettings,
    filter: &Filter,
    parameters: &mut Parameters,
) -> Result<Condition> {
    check_declared(settings, filter)?;
    Reader { settings, parameters }.over(filter)
}

/// The only ids that can pass, where the filter says so outright.
pub(super) fn only_ids(filter: &Filter) -> Option<Vec<MemoryId>> {
    let id = |value: &Scalar| match value {
        Scalar::Text(text) => MemoryId::new(text).ok(),
        _ => None,
    };
    match filter {
        Filter::Compare(Field::Id, CompareOp::Eq, value) => Some(id(value).into_iter().collect()),
        Filter::In(Field::Id, values) => Some(values.iter().filter_map(id).collect()),
        Filter::And(filters) => filters.iter().filter_map(only_ids).min_by_key(Vec::len),
        _ => None,
    }
}

struct Reader<'a> {
    settings: &'a RedisSettings,
    parameters: &'a mut Parameters,
}

impl Reader<'_> {
    /// A condition that every memory meets that passes.
    fn over(&mut self, filter: &Filter) -> Result<Condition> {
        Ok(match filter {
            Filter::All => Condition::Always,
            Filter::And(filters) => all(self.each(filters, Self::over)?),
            Filter::Or(filters) => any(self.each(filters, Self::over)?),
            Filter::Not(inner) => not(self.under(inner)?),
            Filter::Compare(field, op, value) => self.compare(field, *op, value, true)?,
            Filter::In(field, values) => any(self.each_equal(field, values, true)?),
            Filter::Contains(field, text) => self.contains(field, text, true)?,
            Filter::Exists(field) => self.exists(field, true)?,
        })
    }

    /// A condition that only memories meet that pass.
    fn under(&mut self, filter: &Filter) -> Result<Condition> {
        Ok(match filter {
            Filter::All => Condition::Always,
            Filter::And(filters) => all(self.each(filters, Self::under)?),
            Filter::Or(filters) => any(self.each(filters, Self::under)?),
            Filter::Not(inner) => not(self.over(inner)?),
            Filter::Compare(field, op, value) => self.compare(field, *op, value, false)?,
            Filter::In(field, values) => any(self.each_equal(field, values, false)?),
            Filter::Contains(field, text) => self.contains(field, text, false)?,
            Filter::Exists(field) => self.exists(field, false)?,
        })
    }

    fn each(
        &mut self,
        filters: &[Filter],
        read: fn(&mut Self, &Filter) -> Result<Condition>,
    ) -> Result<Vec<Condition>> {
        filters.iter().map(|filter| read(self, filter)).collect()
    }

    fn each_equal(
        &mut self,
        field: &Field,
        values: &[Scalar],
        over: bool,
    ) -> Result<Vec<Condition>> {
        values.iter().map(|value| self.compare(field, CompareOp::Eq, value, over)).collect()
    }

    fn compare(
        &mut self,
        field: &Field,
        op: CompareOp,
        value: &Scalar,
        over: bool,
    ) -> Result<Condition> {
        if let Field::Metadata(key) = field {
            let (at, kind) = declared(self.settings, key)?;
            let attribute = metadata_attribute(at);
            return Ok(match (kind, double(value)) {
                // Something else than a number is there and not equal.
                (FilterKeyType::Number, Some(_)) if over && op == CompareOp::Ne => unknown(over),
                (FilterKeyType::Number, Some(double)) => number(&attribute, op, double, over),
                (FilterKeyType::Number, None) => unknown(over),
                (_, double) => self.code(&attribute, op, value, double.is_some(), over),
            });
        }
        if let (Some(attribute), Scalar::Time(time)) = (time_attribute(field), value) {
            let condition = number(attribute, op, place(time.as_micros()), over);
            // What never expires stands for no time there.
            return Ok(if *field == Field::ExpiresAt {
                all(vec![condition, expiring()])
            } else {
                condition
            });
        }
        if let (Field::Importance, Some(double)) = (field, double(value)) {
            return Ok(number(super::schema::IMPORTANCE, op, double, over));
        }
        let Scalar::Text(text) = value else { return Ok(unknown(over)) };
        // Roles are of a closed set, none of which is written like another.
        let exact = *field == Field::Role;
        Ok(match (op, tag_attribute(field)) {
            (CompareOp::Eq, Some(attribute)) if over || exact => self.tag(attribute, text),
            (CompareOp::Ne, Some(attribute)) if over && exact => not(self.tag(attribute, text)),
            _ => unknown(over),
        })
    }

    /// A text among tags that are as they were given: the engine drops white space at their ends.
    fn tag(&mut self, attribute: &str, text: &str) -> Condition {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}');
        if text.is_empty() {
            return Condition::Always;
        }
        let plain = self.parameters.add(text);
        let plain = format!("@{attribute}:{{{plain}}}");
        if !text.contains('\\') {
            return Condition::Query(plain);
        }
        // Some versions take a backslash for itself, others want two.
        let doubled = self.parameters.add(text.replace('\\', "\\\\"));
        Condition::Query(format!("({plain}|@{attribute}:{{{doubled}}})"))
    }

    /// A code of a metadata key, which is exact.
    fn code(
        &mut self,
        attribute: &str,
        op: CompareOp,
        value: &Scalar,
        is_number: bool,
        over: bool,
    ) -> Condition {
        let code = match value {
            Scalar::Bool(value) => fields::bool_code(*value).to_owned(),
            Scalar::Text(text) => fields::text_code('t', text),
            Scalar::Int(_) | Scalar::Float(_) | Scalar::Time(_) => String::new(),
        };
        let mut has = |code: &str| {
            let code = self.parameters.add(code);
            Condition::Query(format!("@{attribute}:{{{code}}}"))
        };
        match op {
            CompareOp::Eq if !is_number => has(&code),
            CompareOp::Ne if !is_number => all(vec![has(PRESENT), not(has(&code))]),
            _ if over => has(PRESENT),
            _ => Condition::Never,
        }
    }

    fn contains(&mut self, field: &Field, text: &str, over: bool) -> Result<Condition> {
        let Field::Metadata(key) = field else { return Ok(unknown(over)) };
        let (at, kind) = declared(self.settings, key)?;
        if kind == FilterKeyType::Number {
            return Ok(unknown(over));
        }
        let code = self.parameters.add(fields::text_code('l', text));
        Ok(Condition::Query(format!("@{}:{{{code}}}", metadata_attribute(at))))
    }

    fn exists(&mut self, field: &Field, over: bool) -> Result<Condition> {
        Ok(match field {
            Field::ExpiresAt => expiring(),
            Field::Metadata(key) => match declared(self.settings, key)? {
                (_, FilterKeyType::Number) => unknown(over),
                (at, _) => {
                    let code = self.parameters.add(PRESENT);
                    Condition::Query(format!("@{}:{{{code}}}", metadata_attribute(at)))
                }
            },
            _ => unknown(over),
        })
    }
}

/// Nothing is known: every memory may pass, none must.
fn unknown(over: bool) -> Condition {
    if over { Condition::Always } else { Condition::Never }
}

/// The conditions of what is visible at a time, wide by less than the step of a double: 2 ms.
pub(super) fn visible(micros: i64) -> Condition {
    number(super::schema::VISIBLE, CompareOp::Gte, place(micros), true)
}

fn expiring() -> Condition {
    number(super::schema::VISIBLE, CompareOp::Lt, place(f::ALWAYS), false)
}

/// Where a number that is stored as [`f::sortable`] digits stands for the engine.
#[expect(clippy::cast_precision_loss, reason = "that is what the engine does")]
fn place(number: i64) -> f64 {
    (number.cast_unsigned() ^ (1 << 63)) as f64
}

fn double(value: &Scalar) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "that is what the engine does")]
        Scalar::Int(value) => Some(*value as f64),
        Scalar::Float(value) => Some(*value),
        Scalar::Bool(_) | Scalar::Text(_) | Scalar::Time(_) => None,
    }
}

/// A range of doubles around a number that may have been rounded, as may what is stored: rounding
/// keeps the order, so that the end belongs to what may pass and not to what must.
fn number(attribute: &str, op: CompareOp, value: f64, over: bool) -> Condition {
    // Minus zero is zero; large numbers are written out, for not every version reads exponents.
    let value = value + 0.0;
    let value = if value.abs() < 1e-5 { format!("{value:e}") } else { format!("{value}") };
    let query = match (op, over) {
        (CompareOp::Eq, true) => format!("@{attribute}:[{value} {value}]"),
        (CompareOp::Ne, true) => format!("@{attribute}:[-inf +inf]"),
        (CompareOp::Lt | CompareOp::Lte, true) => format!("@{attribute}:[-inf {value}]"),
        (CompareOp::Gt | CompareOp::Gte, true) => format!("@{attribute}:[{value} +inf]"),
        (CompareOp::Eq, false) => return Condition::Never,
        (CompareOp::Ne, false) => {
            format!("(@{attribute}:[-inf ({value}]|@{attribute}:[({value} +inf])")
        }
        (CompareOp::Lt | CompareOp::Lte, false) => format!("@{attribute}:[-inf ({value}]"),
        (CompareOp::Gt | CompareOp::Gte, false) => format!("@{attribute}:[({value} +inf]"),
    };
    Condition::Query(query)
}

pub(super) fn all(conditions: Vec<Condition>) -> Condition {
    joined(conditions, &Condition::Never, &Condition::Always, " ")
}

fn any(conditions: Vec<Condition>) -> Condition {
    joined(conditions, &Condition::Always, &Condition::Never, "|")
}

/// `decides` makes the whole what it is, `neutral` changes nothing.
fn joined(
    conditions: Vec<Condition>,
    decides: &Condition,
    neutral: &Condition,
    by: &str,
) -> Condition {
    if conditions.contains(decides) {
        return decides.clone();
    }
    let mut queries: Vec<String> = conditions
        .into_iter()
        .filter_map(|condition| match condition {
            Condition::Query(query) => Some(query),
            Condition::Always | Condition::Never => None,
        })
        .collect();
    match queries.len() {
        0 => neutral.clone(),
        1 => Condition::Query(queries.swap_remove(0)),
        _ => Condition::Query(format!("({})", queries.join(by))),
    }
}

fn not(condition: Condition) -> Condition {
    match condition {
        Condition::Always => Condition::Never,
        Condition::Never => Condition::Always,
        // The engine loses its way in a negation of a negation. Nothing else begins so.
        Condition::Query(query) => match query.strip_prefix("(-(") {
            Some(inner) => Condition::Query(inner[..inner.len() - 2].to_owned()),
            None => Condition::Query(format!("(-({query}))")),
        },
    }
}

#[cfg(test)]
mod tests {
    use memory_core::Timestamp;

    use super::*;

    fn settings() -> RedisSettings {
        let mut settings = RedisSettings::default();
        for (key, kind) in
            [("n", FilterKeyType::Number), ("t", FilterKeyType::Text), ("l", FilterKeyType::List)]
        {
            settings.filter_keys.insert(MetaKey::new(key).unwrap(), kind);
        }
        settings
    }

    fn read(filter: &Filter) -> (Condition, Vec<String>) {
        let mut parameters = Parameters::default();
        let condition = necessary(&settings(), filter, &mut parameters).unwrap();
        let values = parameters.0.into_iter();
        (condition, values.map(|(_, value)| String::from_utf8(value).unwrap()).collect())
    }

    fn query(text: &str) -> Condition {
        Condition::Query(text.to_owned())
    }

    fn meta(key: &str) -> Field {
        Field::Metadata(MetaKey::new(key).unwrap())
    }

    #[test]
    fn values_are_never_part_of_the_text() {
        let hostile = "x} @qu:{*} | -\\ \"";
        let (condition, values) = read(&Filter::eq(Field::UserId, hostile));
        assert_eq!(condition, query("(@qu:{$p0}|@qu:{$p1})"));
        assert_eq!(values, [hostile, "x} @qu:{*} | -\\\\ \""]);
        assert_eq!(read(&Filter::eq(Field::UserId, " \t")).0, Condition::Always);
        assert_eq!(read(&Filter::eq(Field::UserId, " a ")).1, ["a"]);
    }

    #[test]
    fn what_is_not_exact_is_not_negated() {
        let bob = Filter::eq(Field::UserId, "bob");
        assert_eq!(read(&Filter::Not(Box::new(bob.clone()))).0, Condition::Always);
        assert_eq!(read(&Filter::Not(Box::new(Filter::Not(Box::new(bob))))).0, query("@qu:{$p0}"));
        let role = Filter::eq(Field::Role, "user");
        assert_eq!(read(&Filter::Not(Box::new(role))).0, query("(-(@qr:{$p0}))"));
        let text = Filter::eq(meta("t"), "v");
        let not = Filter::Not(Box::new(text));
        assert_eq!(read(&not).0, query("(-(@qm2:{$p0}))"));
        assert_eq!(read(&Filter::Not(Box::new(not))).0, query("@qm2:{$p0}"));
    }

    #[test]
    fn numbers_round_outwards_and_negated_inwards() {
        let over = Filter::Compare(meta("n"), CompareOp::Lt, Scalar::Int(i64::MAX));
        assert_eq!(read(&over).0, query("@qm1:[-inf 9223372036854776000]"));
        let not = Filter::Not(Box::new(over));
        assert_eq!(read(&not).0, query("(-(@qm1:[-inf (9223372036854776000]))"));
        let tiny = Filter::eq(meta("n"), 1e-9);
        assert_eq!(read(&tiny).0, query("@qm1:[1e-9 1e-9]"));
        let never = Filter::Not(Box::new(Filter::eq(meta("n"), 1)));
        assert_eq!(read(&never).0, Condition::Always);
        let text = Filter::eq(meta("n"), "1");
        assert_eq!(read(&text).0, Condition::Always, "a text under a key of numbers");
    }

    #[test]
    fn times_and_codes() {
        let at = Scalar::Time(Timestamp::from_micros(0).unwrap());
        let early = Filter::Compare(Field::OccurredAt, CompareOp::Lte, at.clone());
        assert_eq!(read(&early).0, query("@qo:[-inf 9223372036854776000]"));
        let ends = Filter::Compare(Field::ExpiresAt, CompareOp::Gt, at);
        assert_eq!(
            read(&ends).0,
            query("(@qe:[9223372036854776000 +inf] @qe:[-inf (18446744073709552000])")
        );
        let ne = Filter::Compare(meta("t"), CompareOp::Ne, "v".into());
        assert_eq!(
            read(&ne),
            (query("(@qm2:{$p0} (-(@qm2:{$p1})))"), vec!["p".into(), "tv".into()])
        );
        assert_eq!(read(&Filter::Contains(meta("l"), "a".into())).1, ["la"]);
        assert_eq!(read(&Filter::Exists(Field::AgentId)).0, Condition::Always);
    }

    #[test]
    fn combinations_are_simplified() {
        assert_eq!(read(&Filter::And(vec![])).0, Condition::Always);
        assert_eq!(read(&Filter::Or(vec![])).0, Condition::Never);
        let unknown = Filter::Exists(Field::AgentId);
        let bob = Filter::eq(Field::UserId, "bob");
        assert_eq!(read(&Filter::And(vec![unknown.clone(), bob.clone()])).0, query("@qu:{$p0}"));
        assert_eq!(read(&Filter::Or(vec![unknown, bob.clone()])).0, Condition::Always);
        let or = Filter::Or(vec![bob, Filter::eq(Field::UserId, "ada")]);
        assert_eq!(read(&or).0, query("(@qu:{$p0}|@qu:{$p1})"));
    }

    #[test]
    fn undeclared_keys_are_named_wherever_they_stand() {
        let filter = Filter::Or(vec![Filter::All, Filter::eq(meta("other"), 1)]);
        let error = necessary(&settings(), &filter, &mut Parameters::default()).unwrap_err();
        assert!(error.message().contains("\"other\""), "{error}");
    }

    #[test]
    fn ids_are_told_where_no_other_can_pass() {
        let one = Filter::eq(Field::Id, "a");
        let both = Filter::In(Field::Id, vec!["a".into(), "b".into()]);
        assert_eq!(only_ids(&one).unwrap().len(), 1);
        assert_eq!(only_ids(&Filter::And(vec![both.clone(), one])).unwrap().len(), 1);
        assert_eq!(only_ids(&both).unwrap().len(), 2);
        assert!(only_ids(&Filter::Or(vec![both])).is_none());
        assert!(only_ids(&Filter::All).is_none());
    }
}
