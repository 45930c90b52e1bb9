//! Sets of values of one stored field, as intervals of its order.

use std::cmp::Ordering;
use std::ops::Bound;

/// A value of a stored field. Values of one field are of one variant.
#[derive(Clone, Debug)]
pub(crate) enum Point {
    /// A text, compared as bytes.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A finite number; never minus zero.
    Number(f64),
    /// A time in microseconds since 1970.
    Time(i64),
}

impl Point {
    fn rank(&self) -> u8 {
        match self {
            Self::Text(_) => 0,
            Self::Bytes(_) => 1,
            Self::Number(_) => 2,
            Self::Time(_) => 3,
        }
    }
}

impl Ord for Point {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Time(a), Self::Time(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Point {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Point {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Point {}

/// The values between two ends. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) low: Bound<Point>,
    pub(crate) high: Bound<Point>,
}

impl Interval {
    /// One value.
    pub(crate) fn point(point: Point) -> Self {
        Self { low: Bound::Included(point.clone()), high: Bound::Included(point) }
    }

    /// The only value, if there is only one.
    pub(crate) fn only(&self) -> Option<&Point> {
        match (&self.low, &self.high) {
            (Bound::Included(low), Bound::Included(high)) if low == high => Some(low),
            _ => None,
        }
    }

    /// The values that both hold.
    pub(crate) fn meet(&self, other: &Self) -> Option<Self> {
        let low = if low_order(&self.low, &other.low).is_ge() { &self.low } else { &other.low };
        let high =
            if high_order(&self.high, &other.high).is_le() { &self.high } else { &other.high };
        let empty = match (low, high) {
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(low), Bound::Included(high)) => low > high,
            (
                Bound::Included(low) | Bound::Excluded(low),
                Bound::Included(high) | Bound::Excluded(high),
            ) => low >= high,
        };
        (!empty).then(|| Self { low: low.clone(), high: high.clone() })
    }

    /// Whether the value is one of these.
    #[cfg(test)]
    pub(crate) fn holds(&self, point: &Point) -> bool {
        self.meet(&Self::point(point.clone())).is_some()
    }
}

/// Which of two low ends comes first.
fn low_order(a: &Bound<Point>, b: &Bound<Point>) -> Ordering {
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => Ordering::Less,
        (_, Bound::Unbounded) => Ordering::Greater,
        (Bound::Included(a), Bound::Included(b)) | (Bound::Excluded(a), Bound::Excluded(b)) => {
            a.cmp(b)
        }
        (Bound::Included(a), Bound::Excluded(b)) => a.cmp(b).then(Ordering::Less),
        (Bound::Excluded(a), Bound::Included(b)) => a.cmp(b).then(Ordering::Greater),
    }
}

/// Which of two high ends comes first.
fn high_order(a: &Bound<Point>, b: &Bound<Point>) -> Ordering {
    match (a, b) {
        (Bound::Unbounded, Bound::Unbounded) => Ordering::Equal,
        (Bound::Unbounded, _) => Ordering::Greater,
        (_, Bound::Unbounded) => Ordering::Less,
        (Bound::Included(a), Bound::Included(b)) | (Bound::Excluded(a), Bound::Excluded(b)) => {
            a.cmp(b)
        }
        (Bound::Included(a), Bound::Excluded(b)) => a.cmp(b).then(Ordering::Greater),
        (Bound::Excluded(a), Bound::Included(b)) => a.cmp(b).then(Ordering::Less),
    }
}

/// Disjoint intervals in ascending order, none of which touches the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set(Vec<Interval>);

impl Set {
    /// Nothing.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// The values between two ends; nothing where the ends cross.
    pub(crate) fn between(low: Bound<Point>, high: Bound<Point>) -> Self {
        let all = Interval { low: Bound::Unbounded, high: Bound::Unbounded };
        Self(all.meet(&Interval { low, high }).into_iter().collect())
    }

    /// One value.
    pub(crate) fn point(point: Point) -> Self {
        Self(vec![Interval::point(point)])
    }

    pub(crate) fn intervals(&self) -> &[Interval] {
        &self.0
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it is made of single values.
    pub(crate) fn is_points(&self) -> bool {
        self.0.iter().all(|interval| interval.only().is_some())
    }

    /// The only value, if there is only one.
    pub(crate) fn only(&self) -> Option<&Point> {
        match self.0.as_slice() {
            [interval] => interval.only(),
            _ => None,
        }
    }

    /// The values that both hold.
    pub(crate) fn meet(&self, other: &Self) -> Self {
        let pairs = self.0.iter().flat_map(|a| other.0.iter().filter_map(|b| a.meet(b)));
        // Of disjoint ascending intervals, pairwise: ascending already, and still apart.
        Self(pairs.collect())
    }

    /// The values that either holds.
    pub(crate) fn join(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.0.iter().chain(&other.0).cloned().collect();
        all.sort_by(|a, b| low_order(&a.low, &b.low));
        let mut joined: Vec<Interval> = Vec::with_capacity(all.len());
        for next in all {
            match joined.last_mut() {
                Some(last) if touches(&last.high, &next.low) => {
                    if high_order(&next.high, &last.high).is_gt() {
                        last.high = next.high;
                    }
                }
                _ => joined.push(next),
            }
        }
        Self(joined)
    }

    /// The values of `domain` that it does not hold.
    pub(crate) fn complement(&self, domain: &Self) -> Self {
        let mut left = domain.clone();
        for interval in &self.0 {
            let below = match &interval.low {
                Bound::Unbounded => Self::none(),
                Bound::Included(low) => {
                    Self::between(Bound::Unbounded, Bound::Excluded(low.clone()))
                }
                Bound::Excluded(low) => {
                    Self::between(Bound::Unbounded, Bound::Included(low.clone()))
                }
            };
            let above = match &interval.high {
                Bound::Unbounded => Self::none(),
                Bound::Included(high) => {
                    Self::between(Bound::Excluded(high.clone()), Bound::Unbounded)
                }
                Bound::Excluded(high) => {
                    Self::between(Bound::Included(high.clone()), Bound::Unbounded)
                }
            };
            left = left.meet(&below.join(&above));
        }
        left
    }

    /// Whether every value of `other` is one of these.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.meet(other) == *other
    }

    /// Whether the value is one of these.
    #[cfg(test)]
    pub(crate) fn holds(&self, point: &Point) -> bool {
        self.0.iter().any(|interval| interval.holds(point))
    }
}

/// Whether nothing lies between a high end and a low end that begins no earlier than its interval.
fn touches(high: &Bound<Point>, low: &Bound<Point>) -> bool {
    match (high, low) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Excluded(high), Bound::Excluded(low)) => low < high,
        (
            Bound::Included(high) | Bound::Excluded(high),
            Bound::Included(low) | Bound::Excluded(low),
        ) => low <= high,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bound(kind: u8, at: i64) -> Bound<Point> {
        match kind {
            0 => Bound::Unbounded,
            1 => Bound::Included(Point::Time(at)),
            _ => Bound::Excluded(Point::Time(at)),
        }
    }

    fn set() -> impl Strategy<Value = Set> {
        prop::collection::vec((0_u8..3, 0_i64..8, 0_u8..3, 0_i64..8), 0..4).prop_map(|parts| {
            parts.into_iter().fold(Set::none(), |set, (low, from, high, to)| {
                set.join(&Set::between(bound(low, from), bound(high, to)))
            })
        })
    }

    fn whole() -> Set {
        Set::between(Bound::Unbounded, Bound::Unbounded)
    }

    proptest! {
        #[test]
        fn sets_behave_as_sets(a in set(), b in set()) {
            let complement = a.complement(&whole());
            for at in -1..10 {
                let point = Point::Time(at);
                let (in_a, in_b) = (a.holds(&point), b.holds(&point));
                prop_assert_eq!(a.meet(&b).holds(&point), in_a && in_b);
                prop_assert_eq!(a.join(&b).holds(&point), in_a || in_b);
                prop_assert_eq!(complement.holds(&point), !in_a);
            }
            prop_assert_eq!(&complement.complement(&whole()), &a);
            prop_assert_eq!(a.join(&complement), whole());
            prop_assert!(a.meet(&complement).is_none());
            prop_assert!(a.join(&b).covers(&a) && a.covers(&a.meet(&b)));
            for pair in a.intervals().windows(2) {
                prop_assert!(pair[0].meet(&pair[1]).is_none(), "{a:?}");
                prop_assert!(!touches(&pair[0].high, &pair[1].low), "{a:?}");
            }
        }
    }
}
