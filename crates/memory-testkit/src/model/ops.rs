//! The operations of the model test, and how they are drawn.

use std::time::Duration;

use memory_core::{
    CompareOp, Direction, Field, Filter, MetaKey, Order, OrderField, Scalar, Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Ids that collide, and that careless escaping would confuse.
pub(super) const IDS: [&str; 7] = ["a", "b", "a/b", "acct1", "acct10", "é", "%"];
/// Tenants of which one's name begins with the other's.
pub(super) const TENANTS: [&str; 2] = ["t", "t2"];
/// Users likewise.
pub(super) const USERS: [&str; 3] = ["ada", "ada2", "bob"];
/// Texts; the words are those of [`crate::generators::WORDS`].
pub(super) const TEXTS: [&str; 5] = [
    "zebra lantern",
    "zebra zebra quartz",
    "a violin in the harbor",
    "Lantern, QUARTZ and violin.",
    // With `canary::TEXT`.
    "meadow zqxcanarytext",
];
/// Searches for words.
pub(super) const WORDS: [&str; 6] =
    ["zebra", "lantern quartz", "violin meadow", "walnut zqxcanarytext", "", "zebra harbor meadow"];
/// Vectors of three dimensions; two of them lie near each other.
pub(super) const VECTORS: [[f32; 3]; 6] = [
    [1.0, 0.0, 0.0],
    [0.9, 0.1, 0.0],
    [0.0, 1.0, 0.0],
    [0.0, -1.0, 0.5],
    [-1.0, 0.2, 0.3],
    [3.0, 4.0, 5.0],
];

/// Which revision a write or delete expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revised {
    /// Whatever is there.
    Any,
    /// Nothing is there.
    Absent,
    /// The last one that this test saw of the id.
    Last,
    /// The first one that this test saw of the id.
    First,
}

/// What a put does to vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorOp {
    /// There are none.
    None,
    /// The vector of this place in the list.
    One(usize),
    /// Those that are there, where the precondition allows it; else none.
    Keep,
}

/// One write. Places count into the constant lists.
#[derive(Clone, Debug)]
pub enum WriteOp {
    /// A put.
    Put {
        /// Place of the id.
        id: usize,
        /// Place of the user.
        user: usize,
        /// Place of the text.
        text: usize,
        /// Seconds until it expires.
        expires: Option<u64>,
        /// Seconds since it occurred.
        age: u64,
        /// A number in the metadata.
        number: Option<i64>,
        /// Its vectors.
        vectors: VectorOp,
        /// Its precondition.
        revised: Revised,
    },
    /// A delete.
    Delete {
        /// Place of the id.
        id: usize,
        /// Its precondition.
        revised: Revised,
    },
}

impl WriteOp {
    pub(super) fn id(&self) -> usize {
        match self {
            Self::Put { id, .. } | Self::Delete { id, .. } => *id,
        }
    }
}

/// A filter; times and places are made out when it is used.
#[derive(Clone, Debug)]
pub enum FilterOp {
    /// Every item.
    All,
    /// Items of a user.
    User(usize),
    /// Items whose number compares so.
    Number(CompareOp, i64),
    /// Items with a number.
    HasNumber,
    /// Items of one of two ids.
    Ids(usize, usize),
    /// Items that occurred in the last seconds.
    Since(u64),
    /// Items that will expire.
    Expires,
    /// Not this.
    Not(Box<FilterOp>),
    /// All of these.
    And(Vec<FilterOp>),
    /// One of these.
    Or(Vec<FilterOp>),
}

impl FilterOp {
    pub(super) fn build(&self, now: Timestamp) -> memory_core::Result<Filter> {
        let number = || Ok(Field::Metadata(MetaKey::new("number")?));
        let list = |filters: &[Self]| -> memory_core::Result<Vec<Filter>> {
            filters.iter().map(|filter| filter.build(now)).collect()
        };
        Ok(match self {
            Self::All => Filter::All,
            Self::User(user) => Filter::eq(Field::UserId, USERS[*user]),
            Self::Number(op, value) => Filter::Compare(number()?, *op, Scalar::Int(*value)),
            Self::HasNumber => Filter::Exists(number()?),
            Self::Ids(a, b) => Filter::In(Field::Id, vec![IDS[*a].into(), IDS[*b].into()]),
            Self::Since(seconds) => Filter::Compare(
                Field::OccurredAt,
                CompareOp::Gte,
                now.saturating_sub(Duration::from_secs(*seconds)).into(),
            ),
            Self::Expires => Filter::Exists(Field::ExpiresAt),
            Self::Not(filter) => Filter::Not(Box::new(filter.build(now)?)),
            Self::And(filters) => Filter::And(list(filters)?),
            Self::Or(filters) => Filter::Or(list(filters)?),
        })
    }
}

/// One operation.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the arguments of the call that the variant names")]
pub enum Op {
    /// A commit; a key is a number and the digest of its request.
    Commit { tenant: usize, writes: Vec<WriteOp>, key: Option<(u8, u8)> },
    /// The last commit sent again as one whose answer was lost, if nothing came between.
    Resend,
    /// All ids in one fetch.
    Fetch { tenant: usize, vectors: bool },
    /// All pages of a query.
    Query { tenant: usize, filter: FilterOp, order: Order, limit: u32 },
    /// A count.
    Count { tenant: usize, filter: FilterOp },
    /// Time passes.
    Advance { seconds: u64 },
    /// A step of a sweep.
    Sweep { tenant: usize, limit: u32 },
    /// A whole erasure of a user, or of the tenant.
    Erase { tenant: usize, user: Option<usize> },
    /// A search for neighbours.
    Nearest { tenant: usize, vector: usize, filter: FilterOp, limit: u32 },
    /// What lacks a vector, in pages.
    Missing { tenant: usize, limit: u32 },
    /// A search for words.
    Words { tenant: usize, text: usize, filter: FilterOp },
}

fn revised() -> impl Strategy<Value = Revised> {
    prop_oneof![
        4 => Just(Revised::Any),
        2 => Just(Revised::Absent),
        3 => Just(Revised::Last),
        1 => Just(Revised::First),
    ]
}

fn write() -> impl Strategy<Value = WriteOp> {
    let vectors = prop_oneof![
        1 => Just(VectorOp::None),
        3 => (0..VECTORS.len()).prop_map(VectorOp::One),
        2 => Just(VectorOp::Keep),
    ];
    let put = (
        (0..IDS.len(), 0..USERS.len(), 0..TEXTS.len()),
        (prop::option::weighted(0.3, 0..20_u64), 0..4_u64, prop::option::of(-2..3_i64)),
        (vectors, revised()),
    )
        .prop_map(|((id, user, text), (expires, age, number), (vectors, revised))| {
            WriteOp::Put { id, user, text, expires, age, number, vectors, revised }
        });
    let delete =
        (0..IDS.len(), revised()).prop_map(|(id, revised)| WriteOp::Delete { id, revised });
    prop_oneof![4 => put, 1 => delete]
}

fn filter() -> impl Strategy<Value = FilterOp> {
    let compare = prop_oneof![
        Just(CompareOp::Eq),
        Just(CompareOp::Ne),
        Just(CompareOp::Lt),
        Just(CompareOp::Gte),
    ];
    let leaf = prop_oneof![
        2 => Just(FilterOp::All),
        2 => (0..USERS.len()).prop_map(FilterOp::User),
        2 => (compare, -2..3_i64).prop_map(|(op, value)| FilterOp::Number(op, value)),
        1 => Just(FilterOp::HasNumber),
        1 => (0..IDS.len(), 0..IDS.len()).prop_map(|(a, b)| FilterOp::Ids(a, b)),
        1 => (0..10_u64).prop_map(FilterOp::Since),
        1 => Just(FilterOp::Expires),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|filter| FilterOp::Not(Box::new(filter))),
            vec(inner.clone(), 0..3).prop_map(FilterOp::And),
            vec(inner, 0..3).prop_map(FilterOp::Or),
        ]
    })
}

fn order() -> impl Strategy<Value = Order> {
    let field = prop_oneof![
        Just(OrderField::OccurredAt),
        Just(OrderField::CreatedAt),
        Just(OrderField::UpdatedAt),
        Just(OrderField::Id),
    ];
    let direction = prop_oneof![Just(Direction::Ascending), Just(Direction::Descending)];
    (field, direction).prop_map(|(field, direction)| Order { field, direction })
}

/// Any operation.
pub(super) fn op() -> impl Strategy<Value = Op> {
    let tenant = || 0..TENANTS.len();
    let key = prop::option::weighted(0.15, (0..2_u8, 0..2_u8));
    let commit = (tenant(), vec(write(), 1..5), key).prop_map(|(tenant, writes, key)| Op::Commit {
        tenant,
        writes,
        key,
    });
    let query = (tenant(), filter(), order(), 1..5_u32)
        .prop_map(|(tenant, filter, order, limit)| Op::Query { tenant, filter, order, limit });
    let nearest = (tenant(), 0..VECTORS.len(), filter(), 1..5_u32)
        .prop_map(|(tenant, vector, filter, limit)| Op::Nearest { tenant, vector, filter, limit });
    let words = (tenant(), 0..WORDS.len(), filter()).prop_map(|(tenant, text, filter)| Op::Words {
        tenant,
        text,
        filter,
    });
    prop_oneof![
        12 => commit,
        3 => Just(Op::Resend),
        2 => (tenant(), any::<bool>()).prop_map(|(tenant, vectors)| Op::Fetch { tenant, vectors }),
        4 => query,
        2 => (tenant(), filter()).prop_map(|(tenant, filter)| Op::Count { tenant, filter }),
        3 => prop_oneof![9 => 0..8_u64, 1 => Just(90_000)].prop_map(|s| Op::Advance { seconds: s }),
        1 => (tenant(), 1..4_u32).prop_map(|(tenant, limit)| Op::Sweep { tenant, limit }),
        1 => (tenant(), prop::option::weighted(0.7, 0..USERS.len()))
            .prop_map(|(tenant, user)| Op::Erase { tenant, user }),
        3 => nearest,
        2 => (tenant(), 1..5_u32).prop_map(|(tenant, limit)| Op::Missing { tenant, limit }),
        2 => words,
    ]
}
