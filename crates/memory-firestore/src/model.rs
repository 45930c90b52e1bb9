//! How an item is stored: the one place where documents and items convert.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{
    AgentId, ContentHash, EmbeddingSpace, Error, ErrorKind, Kind, MemoryItem, MetaKey, MetaValue,
    Projection, Put, Result, Revision, SessionId, SpaceId, Timestamp, UserId, VectorProjection,
};
use proto::Value;
use proto::value::ValueType;
use sha2::{Digest as _, Sha256};

use crate::error::corrupt;
use crate::fields as f;
use crate::keys;
use crate::names::{Names, digits, encode};
use crate::revision::Parts;
use crate::settings::{FilterKeyType, FirestoreSettings};
use crate::wire::Found;

/// The version of every stored shape: documents of memories, tenants and the store.
pub(crate) const SHAPE: i64 = 1;

/// What `visible_until` holds for an item that never expires: 9999-12-31T00:00:00Z, later than any
/// time that an item can have.
pub(crate) const FOREVER: i64 = 253_402_214_400_000_000;

/// The field of a vector: a map that the service knows as a vector by this key.
const VECTOR_TYPE: &str = "__vector__";

/// A value of the service.
pub(crate) fn value(value_type: ValueType) -> Value {
    Value { value_type: Some(value_type) }
}

pub(crate) fn text(text: impl Into<String>) -> Value {
    value(ValueType::StringValue(text.into()))
}

pub(crate) fn time(micros: i64) -> Value {
    value(ValueType::TimestampValue(crate::wire::timestamp(micros)))
}

/// A text of an item that may lack it: `""` then, which no such text is. So every field is there
/// and of one type, as indexes over several fields need it, and "lacks it" is a place in the order.
fn text_or_none(or_none: Option<&str>) -> Value {
    text(or_none.unwrap_or_default())
}

/// What `importance` holds for an item without one: below every importance.
pub(crate) const NO_IMPORTANCE: f64 = -1.0;

pub(crate) fn map(fields: HashMap<String, Value>) -> Value {
    value(ValueType::MapValue(proto::MapValue { fields }))
}

pub(crate) fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Value {
    let values = texts.into_iter().map(text).collect();
    value(ValueType::ArrayValue(proto::ArrayValue { values }))
}

/// A vector, as nearest-neighbour queries find and take it.
pub(crate) fn vector(components: &[f32]) -> Value {
    let values = components
        .iter()
        .map(|component| value(ValueType::DoubleValue(f64::from(*component))))
        .collect();
    map(HashMap::from([
        ("__type__".to_owned(), text(VECTOR_TYPE)),
        ("value".to_owned(), value(ValueType::ArrayValue(proto::ArrayValue { values }))),
    ]))
}

/// The field of the shape's version.
pub(crate) fn shape_field() -> (String, Value) {
    (f::V.to_owned(), value(ValueType::IntegerValue(SHAPE)))
}

/// Refuses a document of a newer shape, and one that has none.
///
/// # Errors
/// `Unsupported`, `Corrupt`.
pub(crate) fn check_shape(fields: &HashMap<String, Value>) -> Result<()> {
    match fields.get(f::V).and_then(|value| value.value_type.as_ref()) {
        Some(ValueType::IntegerValue(version)) if (1..=SHAPE).contains(version) => Ok(()),
        Some(ValueType::IntegerValue(version)) if *version > SHAPE => {
            Err(Error::unsupported(format!(
                "a document has shape {version}; this build knows shapes up to {SHAPE}: use a newer one"
            )))
        }
        _ => Err(corrupt("shape")),
    }
}

/// The short name that a space's vectors are stored under: equal spaces have equal names.
pub(crate) fn short_name(space: &SpaceId) -> String {
    let digest: [u8; 32] = Sha256::digest(space.as_str().as_bytes()).into();
    format!("s{}", digits(&digest[..6]))
}

/// The field of a space's vectors.
pub(crate) fn vector_field(space: &SpaceId) -> String {
    format!("{}{}", f::VECTOR, short_name(space))
}

/// The field path of a space's vectors.
pub(crate) fn vector_path(space: &EmbeddingSpace) -> String {
    vector_field(&space.id())
}

/// The document of a put: everything but the vectors, which [`with_vectors`] adds.
pub(crate) fn document(
    settings: &FirestoreSettings,
    name: String,
    put: &Put,
    commit: &[u8; 16],
) -> proto::Document {
    let item = &put.item;
    let id = item.id.as_str();
    let mut fields = HashMap::with_capacity(28);
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    put(f::V, value(ValueType::IntegerValue(SHAPE)));
    put(f::COMMIT, value(ValueType::BytesValue(commit.to_vec())));
    put(f::USER_ID, text_or_none(item.user_id.as_ref().map(UserId::as_str)));
    put(f::AGENT_ID, text_or_none(item.agent_id.as_ref().map(AgentId::as_str)));
    put(f::SESSION_ID, text_or_none(item.session_id.as_ref().map(SessionId::as_str)));
    put(f::KIND, text(item.kind.name()));
    put(f::ROLE, text_or_none(item.role.map(memory_core::Role::name)));
    put(f::AUTHOR, text_or_none(item.author.as_deref()));
    put(f::CONTENT, text(item.content()));
    put(f::CONTENT_HASH, text(item.content_hash().to_string()));
    if let Some(payload) = &item.payload {
        put(f::PAYLOAD, text(payload.to_string()));
    }
    if !item.metadata.is_empty() {
        let metadata = item.metadata.iter();
        put(f::METADATA, map(metadata.map(|(k, v)| (k.to_string(), meta_value(v))).collect()));
    }
    // Minus zero is zero.
    let importance = item.importance.map_or(NO_IMPORTANCE, |importance| importance + 0.0);
    put(f::IMPORTANCE, value(ValueType::DoubleValue(importance)));
    put(f::OCCURRED_AT, time(item.occurred_at.as_micros()));
    put(f::CREATED_AT, time(item.created_at.as_micros()));
    put(f::UPDATED_AT, time(item.updated_at.as_micros()));
    put(f::VISIBLE_UNTIL, time(item.expires_at.map_or(FOREVER, Timestamp::as_micros)));
    put(f::BY_ID, text(encode(id)));
    put(f::BY_OCCURRED, text(keys::sort_key(item.occurred_at, id)));
    put(f::BY_CREATED, text(keys::sort_key(item.created_at, id)));
    put(f::BY_UPDATED, text(keys::sort_key(item.updated_at, id)));
    if !settings.filter_keys.is_empty() {
        let of = |key: &MetaKey| keys::bytes_of(item.metadata.get(key));
        let declared = settings.filter_keys.keys();
        put(
            f::KEYS,
            map(declared
                .map(|key| (key.to_string(), value(ValueType::BytesValue(of(key)))))
                .collect()),
        );
    }
    let lists: HashMap<_, _> = settings
        .filter_keys
        .iter()
        .filter(|(_, of)| **of == FilterKeyType::List)
        .filter_map(|(key, _)| match item.metadata.get(key) {
            Some(MetaValue::List(members)) => {
                Some((key.to_string(), texts(members.iter().map(String::as_str))))
            }
            _ => None,
        })
        .collect();
    if !lists.is_empty() {
        put(f::LISTS, map(lists));
    }
    proto::Document { name, fields, create_time: None, update_time: None }
}

/// Adds vectors to a document; their spaces have been checked.
pub(crate) fn with_vectors(document: &mut proto::Document, vectors: &BTreeMap<SpaceId, Vec<f32>>) {
    if vectors.is_empty() {
        return;
    }
    let names: BTreeSet<_> = vectors.keys().map(short_name).collect();
    let spaces = texts(names.iter().map(String::as_str));
    document.fields.insert(f::SPACES.to_owned(), spaces);
    for (space, components) in vectors {
        document.fields.insert(vector_field(space), vector(components));
    }
}

/// Every field that a put writes besides the vectors: the mask of a put that keeps them. A field
/// that the document lacks is removed, as `rev` always is.
pub(crate) fn fields_without_vectors() -> Vec<String> {
    [
        f::V,
        f::COMMIT,
        f::REV,
        f::USER_ID,
        f::AGENT_ID,
        f::SESSION_ID,
        f::KIND,
        f::ROLE,
        f::AUTHOR,
        f::CONTENT,
        f::CONTENT_HASH,
        f::PAYLOAD,
        f::METADATA,
        f::IMPORTANCE,
        f::OCCURRED_AT,
        f::CREATED_AT,
        f::UPDATED_AT,
        f::VISIBLE_UNTIL,
        f::BY_ID,
        f::BY_OCCURRED,
        f::BY_CREATED,
        f::BY_UPDATED,
        f::KEYS,
        f::LISTS,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn meta_value(meta: &MetaValue) -> Value {
    match meta {
        MetaValue::Bool(boolean) => value(ValueType::BooleanValue(*boolean)),
        MetaValue::Int(int) => value(ValueType::IntegerValue(*int)),
        MetaValue::Float(float) => value(ValueType::DoubleValue(*float)),
        MetaValue::Text(string) => text(string),
        MetaValue::List(members) => texts(members.iter().map(String::as_str)),
    }
}

/// The fields that a read of items needs for a projection. `spaces` are the tenant's, for the
/// vectors of all of them; they are not looked at otherwise.
pub(crate) fn mask(projection: &Projection, spaces: &[SpaceId]) -> Vec<String> {
    let mut paths: Vec<String> = [
        f::V,
        f::REV,
        f::USER_ID,
        f::AGENT_ID,
        f::SESSION_ID,
        f::KIND,
        f::ROLE,
        f::AUTHOR,
        f::CONTENT_HASH,
        f::IMPORTANCE,
        f::OCCURRED_AT,
        f::CREATED_AT,
        f::UPDATED_AT,
        f::VISIBLE_UNTIL,
    ]
    .map(str::to_owned)
    .to_vec();
    for (wanted, path) in [
        (projection.content, f::CONTENT),
        (projection.payload, f::PAYLOAD),
        (projection.metadata, f::METADATA),
    ] {
        if wanted {
            paths.push(path.to_owned());
        }
    }
    match &projection.vectors {
        VectorProjection::None => {}
        VectorProjection::Space(space) => paths.push(vector_field(space)),
        VectorProjection::All => paths.extend(spaces.iter().map(vector_field)),
    }
    paths
}

/// The fields that preconditions, resends and revisions need.
pub(crate) fn row_mask() -> Vec<String> {
    [f::V, f::COMMIT, f::REV, f::VISIBLE_UNTIL, f::CONTENT_HASH, f::SPACES]
        .map(str::to_owned)
        .to_vec()
}

/// A document as preconditions see it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its full name.
    pub(crate) name: String,
    /// When it was last changed: the precondition of whoever writes it next.
    pub(crate) updated_at: i64,
    /// Its item's revision.
    pub(crate) revision: Revision,
    /// From when on it is invisible.
    pub(crate) until: Option<Timestamp>,
    /// The commit that wrote it.
    pub(crate) commit: [u8; 16],
    /// The hash of its content.
    pub(crate) hash: ContentHash,
    /// The short names of the spaces that it has a vector in.
    pub(crate) spaces: Vec<String>,
}

impl Row {
    /// # Errors
    /// `Corrupt`, `Unsupported`: naming the document.
    pub(crate) fn read(found: &Found) -> Result<Self> {
        Self::parse(found).map_err(|error| at(error, &found.name))
    }

    fn parse(found: &Found) -> Result<Self> {
        check_shape(&found.fields)?;
        let commit = match kind_of(found, f::COMMIT) {
            Some(ValueType::BytesValue(bytes)) => {
                bytes.as_slice().try_into().map_err(|_| corrupt("commit id"))?
            }
            _ => return Err(corrupt("commit id")),
        };
        let spaces = match kind_of(found, f::SPACES) {
            None => Vec::new(),
            Some(ValueType::ArrayValue(array)) => array
                .values
                .iter()
                .map(|value| match &value.value_type {
                    Some(ValueType::StringValue(text)) => Ok(text.clone()),
                    _ => Err(corrupt("list of spaces")),
                })
                .collect::<Result<_>>()?,
            Some(_) => return Err(corrupt("list of spaces")),
        };
        Ok(Self {
            name: found.name.clone(),
            updated_at: found.updated_at,
            revision: revision(found)?,
            until: until(found)?,
            commit,
            hash: hash(found)?,
            spaces,
        })
    }

    /// Whether its item can be seen at `now`.
    pub(crate) fn is_visible(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// An item out of its document.
///
/// `spaces` are the tenant's, for the names of the vectors that the projection asked for.
///
/// # Errors
/// `Corrupt`, `Unsupported`: naming the document.
pub(crate) fn item(found: &Found, spaces: &[SpaceId]) -> Result<MemoryItem> {
    parse_item(found, spaces).map_err(|error| at(error, &found.name))
}

fn parse_item(found: &Found, spaces: &[SpaceId]) -> Result<MemoryItem> {
    check_shape(&found.fields)?;
    fn parsed<T: std::str::FromStr<Err = Error>>(text: Option<&str>) -> Result<Option<T>> {
        text.map(|text| text.parse().map_err(|_| corrupt("name"))).transpose()
    }
    let content = opt_text(found, f::CONTENT)?.unwrap_or_default().to_owned();
    let id = Names::memory_id(&found.name)?;
    let mut item = MemoryItem::from_stored(id, content, hash(found)?);
    item.user_id = parsed(opt_text(found, f::USER_ID)?)?;
    item.agent_id = parsed(opt_text(found, f::AGENT_ID)?)?;
    item.session_id = parsed(opt_text(found, f::SESSION_ID)?)?;
    item.kind = parsed::<Kind>(opt_text(found, f::KIND)?)?.ok_or_else(|| corrupt("kind"))?;
    item.role = parsed(opt_text(found, f::ROLE)?)?;
    item.author = opt_text(found, f::AUTHOR)?.map(str::to_owned);
    if let Some(payload) = opt_text(found, f::PAYLOAD)? {
        item.payload = Some(serde_json::from_str(payload).map_err(|_| corrupt("payload"))?);
    }
    match kind_of(found, f::METADATA) {
        None => {}
        Some(ValueType::MapValue(map)) => {
            for (key, value) in &map.fields {
                let key = MetaKey::new(key).map_err(|_| corrupt("metadata key"))?;
                item.metadata.insert(key, read_meta(value)?);
            }
        }
        Some(_) => return Err(corrupt("metadata")),
    }
    item.importance = match kind_of(found, f::IMPORTANCE) {
        None => None,
        Some(ValueType::DoubleValue(value)) if *value == NO_IMPORTANCE => None,
        Some(ValueType::DoubleValue(value)) if (0.0..=1.0).contains(value) => Some(*value),
        Some(_) => return Err(corrupt("importance")),
    };
    item.occurred_at = needed_time(found, f::OCCURRED_AT)?;
    item.created_at = needed_time(found, f::CREATED_AT)?;
    item.updated_at = needed_time(found, f::UPDATED_AT)?;
    item.expires_at = until(found)?;
    item.revision = Some(revision(found)?);
    for space in spaces {
        if let Some(value) = found.fields.get(&vector_field(space)) {
            item.vectors.insert(space.clone(), read_vector(value)?);
        }
    }
    Ok(item)
}

/// A number out of an answer, as nearest-neighbour queries give their distance.
pub(crate) fn number(found: &Found, field: &str) -> Option<f64> {
    match kind_of(found, field)? {
        ValueType::DoubleValue(value) => Some(*value),
        #[expect(clippy::cast_precision_loss, reason = "a distance that is a small whole number")]
        ValueType::IntegerValue(value) => Some(*value as f64),
        _ => None,
    }
}

/// The instant from which the document's item is invisible; `None` for never.
///
/// # Errors
/// `Corrupt`.
pub(crate) fn until(found: &Found) -> Result<Option<Timestamp>> {
    match kind_of(found, f::VISIBLE_UNTIL) {
        Some(ValueType::TimestampValue(time)) => match crate::wire::micros(time) {
            FOREVER => Ok(None),
            micros => Timestamp::from_micros(micros).map(Some).map_err(|_| corrupt("expiry")),
        },
        _ => Err(corrupt("expiry")),
    }
}

fn revision(found: &Found) -> Result<Revision> {
    match opt_text(found, f::REV)? {
        Some(text) => Revision::new(text).map_err(|_| corrupt("revision")),
        None => Ok(Parts::new(found.updated_at, until(found)?, &hash(found)?).issue()),
    }
}

fn hash(found: &Found) -> Result<ContentHash> {
    let text = opt_text(found, f::CONTENT_HASH)?.ok_or_else(|| corrupt("content hash"))?;
    ContentHash::parse(text).map_err(|_| corrupt("content hash"))
}

fn needed_time(found: &Found, field: &str) -> Result<Timestamp> {
    match kind_of(found, field) {
        Some(ValueType::TimestampValue(time)) => {
            Timestamp::from_micros(crate::wire::micros(time)).map_err(|_| corrupt("time"))
        }
        _ => Err(corrupt("time")),
    }
}

fn opt_text<'a>(found: &'a Found, field: &str) -> Result<Option<&'a str>> {
    match kind_of(found, field) {
        None => Ok(None),
        Some(ValueType::StringValue(text)) => Ok((!text.is_empty()).then_some(text.as_str())),
        Some(_) => Err(corrupt("text")),
    }
}

/// A field's value; `None` where it is not there or null.
fn kind_of<'a>(found: &'a Found, field: &str) -> Option<&'a ValueType> {
    let value = found.fields.get(field)?.value_type.as_ref()?;
    (!matches!(value, ValueType::NullValue(_))).then_some(value)
}

fn read_meta(value: &Value) -> Result<MetaValue> {
    Ok(match &value.value_type {
        Some(ValueType::BooleanValue(value)) => MetaValue::Bool(*value),
        Some(ValueType::IntegerValue(value)) => MetaValue::Int(*value),
        Some(ValueType::DoubleValue(value)) if value.is_finite() => MetaValue::Float(*value),
        Some(ValueType::StringValue(text)) => MetaValue::Text(text.clone()),
        Some(ValueType::ArrayValue(array)) => MetaValue::List(
            array
                .values
                .iter()
                .map(|value| match &value.value_type {
                    Some(ValueType::StringValue(text)) => Ok(text.clone()),
                    _ => Err(corrupt("metadata list")),
                })
                .collect::<Result<_>>()?,
        ),
        _ => return Err(corrupt("metadata value")),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "what was stored was an f32"
)]
fn read_vector(value: &Value) -> Result<Vec<f32>> {
    let bad = || corrupt("vector");
    let Some(ValueType::MapValue(map)) = &value.value_type else { return Err(bad()) };
    let Some(ValueType::ArrayValue(array)) =
        map.fields.get("value").and_then(|value| value.value_type.as_ref())
    else {
        return Err(bad());
    };
    array
        .values
        .iter()
        .map(|value| match value.value_type {
            Some(ValueType::DoubleValue(component)) => Ok(component as f32),
            Some(ValueType::IntegerValue(component)) => Ok(component as f32),
            _ => Err(bad()),
        })
        .collect()
}

/// Names the document that an error is about: its id, and nothing of what it holds.
fn at(error: Error, name: &str) -> Error {
    if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) {
        return error.with_context("document", crate::names::last(name).to_owned());
    }
    error
}
