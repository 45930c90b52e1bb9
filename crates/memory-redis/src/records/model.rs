//! What a memory is as the fields of a hash: the one place where hashes and items convert.
//!
//! The head is a byte that says its version, 1, the number of metadata entries as one byte, and each
//! entry: the key's length as one byte, the key, a letter for the type, the value. `b` is a byte 0
//! or 1, `i` a little-endian i64, `f` a little-endian f64, `t` a text after its length as a
//! little-endian u16, `l` a number of texts as one byte and each as `t` has it. Nothing follows.

use std::borrow::Cow;
use std::str::FromStr;

use memory_core::traits::TenantSpaces;
use memory_core::{
    AgentId, ContentHash, EmbeddingSpace, Error, Kind, MemoryId, MemoryItem, MetaKey, MetaValue,
    Metadata, Projection, Put, Result, Revision, Role, SessionId, SpaceId, Timestamp, UserId,
    VectorProjection,
};
use redis::{Cmd, Value};

use crate::error::corrupt;
use crate::fields::{self as f, sortable};
use crate::keys::TenantKeys;

/// The version of a memory's hash.
pub(crate) const SHAPE: u8 = 1;

/// The fields that every read of an item needs, in the order in which [`Shape::read`] takes them.
const ALWAYS_READ: [&str; 14] = [
    f::HEAD,
    f::REVISION,
    f::USER,
    f::AGENT,
    f::SESSION,
    f::KIND,
    f::ROLE,
    f::AUTHOR,
    f::HASH,
    f::IMPORTANCE,
    f::OCCURRED,
    f::CREATED,
    f::UPDATED,
    f::VISIBLE,
];

/// Which fields a read asks for, and how they become an item.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    fields: Vec<Cow<'static, str>>,
    content: bool,
    payload: bool,
    metadata: bool,
    /// The spaces whose vectors come along, and their dimensions.
    vectors: Vec<(SpaceId, usize)>,
}

impl Shape {
    /// What a projection needs. `spaces` are the tenant's: vectors of others are never read. They are
    /// not looked at by a projection without vectors.
    pub(crate) fn of(projection: &Projection, spaces: &TenantSpaces) -> Self {
        let sized = |space: &EmbeddingSpace| {
            (space.id(), usize::try_from(space.dimensions()).unwrap_or(usize::MAX))
        };
        let all = || spaces.active.iter().chain(&spaces.next);
        let vectors: Vec<_> = match &projection.vectors {
            VectorProjection::None => Vec::new(),
            VectorProjection::Space(id) => spaces.find(id).map(sized).into_iter().collect(),
            VectorProjection::All => all().map(sized).collect(),
        };
        let mut fields: Vec<_> = ALWAYS_READ.map(Cow::Borrowed).into();
        if projection.content {
            fields.push(Cow::Borrowed(f::CONTENT));
        }
        if projection.payload {
            fields.push(Cow::Borrowed(f::PAYLOAD));
        }
        fields.extend(vectors.iter().map(|(space, _)| TenantKeys::vector_field(space).into()));
        Self {
            fields,
            content: projection.content,
            payload: projection.payload,
            metadata: projection.metadata,
            vectors,
        }
    }

    /// The fields to be read, in the order of the values that [`Shape::read`] takes.
    pub(crate) fn fields(&self) -> impl ExactSizeIterator<Item = &str> {
        self.fields.iter().map(AsRef::as_ref)
    }

    /// The command that reads them of the memory under a key.
    pub(crate) fn get(&self, key: &str) -> Cmd {
        let mut command = Cmd::with_capacity(2 + self.fields.len(), key.len() + 64);
        command.arg("HMGET").arg(key);
        for field in self.fields() {
            command.arg(field);
        }
        command
    }

    /// An item out of the values of [`Shape::fields`], expired or not; `None` where there is no such
    /// memory.
    ///
    /// # Errors
    /// `Corrupt`: naming the memory and the field. `Unsupported`: of a newer version.
    pub(crate) fn read(&self, id: MemoryId, values: Vec<Value>) -> Result<Option<MemoryItem>> {
        let name = id.clone();
        self.parse(id, values).map_err(|error| error.with_context("memory", name.as_str()))
    }

    fn parse(&self, id: MemoryId, values: Vec<Value>) -> Result<Option<MemoryItem>> {
        if values.len() != self.fields.len() {
            return Err(corrupt("an answer has another number of fields than were asked for"));
        }
        if values.iter().all(|value| matches!(value, Value::Nil)) {
            return Ok(None);
        }
        let mut values = values.into_iter();
        let mut next = |name| optional(values.next().unwrap_or(Value::Nil), name);
        let head = needed(next(f::HEAD)?, f::HEAD)?;
        let metadata = Head::new(&head)?;
        let revision = Revision::new(needed_text(next(f::REVISION)?, f::REVISION)?)
            .map_err(|_| bad(f::REVISION))?;
        let user: Option<UserId> = named(next(f::USER)?, f::USER)?;
        let agent: Option<AgentId> = named(next(f::AGENT)?, f::AGENT)?;
        let session: Option<SessionId> = named(next(f::SESSION)?, f::SESSION)?;
        let kind: Kind = needed_text(next(f::KIND)?, f::KIND)?.parse().map_err(|_| bad(f::KIND))?;
        let role: Option<Role> = named(next(f::ROLE)?, f::ROLE)?;
        let author = next(f::AUTHOR)?.map(|bytes| text(bytes, f::AUTHOR)).transpose()?;
        let hash =
            ContentHash::parse(&needed_text(next(f::HASH)?, f::HASH)?).map_err(|_| bad(f::HASH))?;
        let importance = next(f::IMPORTANCE)?.map(read_importance).transpose()?;
        let mut time = |name| read_time(next(name)?, name);
        let (occurred, created) = (time(f::OCCURRED)?, time(f::CREATED)?);
        let (updated, until) = (time(f::UPDATED)?, time(f::VISIBLE)?);
        let needed_time = |time: Option<Timestamp>, name| time.ok_or_else(|| bad(name));

        let content =
            if self.content { needed_text(next(f::CONTENT)?, f::CONTENT)? } else { String::new() };
        let mut item = MemoryItem::from_stored(id, content, hash);
        if self.payload
            && let Some(bytes) = next(f::PAYLOAD)?
        {
            item.payload = Some(serde_json::from_slice(&bytes).map_err(|_| bad(f::PAYLOAD))?);
        }
        for (space, dimensions) in &self.vectors {
            if let Some(bytes) = next(f::VECTOR)? {
                item.vectors.insert(space.clone(), read_vector(&bytes, *dimensions)?);
            }
        }
        if self.metadata {
            item.metadata = metadata.read()?;
        }
        item.user_id = user;
        item.agent_id = agent;
        item.session_id = session;
        item.kind = kind;
        item.role = role;
        item.author = author;
        item.importance = importance;
        item.occurred_at = needed_time(occurred, f::OCCURRED)?;
        item.created_at = needed_time(created, f::CREATED)?;
        item.updated_at = needed_time(updated, f::UPDATED)?;
        item.expires_at = until;
        item.revision = Some(revision);
        Ok(Some(item))
    }
}

/// A field and its value.
pub(crate) type FieldValue<'a> = (&'static str, Cow<'a, [u8]>);

/// The fields of a put and their values, but revision, commit, vectors and what the query engine
/// reads. The first are times and owners, in the order that `lua/commit.lua` wants.
///
/// # Errors
/// `InvalidInput`: metadata beyond its limits, which a valid item does not have.
pub(crate) fn fields_of(put: &Put) -> Result<Vec<FieldValue<'_>>> {
    let item = &put.item;
    let until = item.expires_at.map_or(f::ALWAYS, Timestamp::as_micros);
    let mut fields = Vec::with_capacity(16);
    let mut add = |name, value| fields.push((name, value));
    add(f::OCCURRED, sortable(item.occurred_at.as_micros()).into_bytes().into());
    add(f::CREATED, sortable(item.created_at.as_micros()).into_bytes().into());
    add(f::UPDATED, sortable(item.updated_at.as_micros()).into_bytes().into());
    add(f::VISIBLE, sortable(until).into_bytes().into());
    for (name, value) in [
        (f::USER, item.user_id.as_ref().map(UserId::as_str)),
        (f::AGENT, item.agent_id.as_ref().map(AgentId::as_str)),
        (f::SESSION, item.session_id.as_ref().map(SessionId::as_str)),
    ] {
        if let Some(value) = value {
            add(name, value.as_bytes().into());
        }
    }
    add(f::HASH, item.content_hash().to_string().into_bytes().into());
    add(f::HEAD, head(&item.metadata)?.into());
    add(f::KIND, item.kind.name().as_bytes().into());
    add(f::CONTENT, item.content().as_bytes().into());
    if let Some(role) = item.role {
        add(f::ROLE, role.name().as_bytes().into());
    }
    if let Some(author) = &item.author {
        add(f::AUTHOR, author.as_bytes().into());
    }
    if let Some(importance) = item.importance {
        // Minus zero is zero.
        add(f::IMPORTANCE, (importance + 0.0).to_string().into_bytes().into());
    }
    if let Some(payload) = &item.payload {
        add(f::PAYLOAD, payload.to_string().into_bytes().into());
    }
    Ok(fields)
}

/// The metadata in a memory's head.
///
/// # Errors
/// `Corrupt`; `Unsupported`: of a newer version.
pub(crate) fn read_metadata(head: &[u8]) -> Result<Metadata> {
    Head::new(head)?.read()
}

/// A vector as its field holds it: little-endian f32.
pub(crate) fn vector_bytes(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|component| component.to_le_bytes()).collect()
}

/// A vector out of its field.
///
/// # Errors
/// `Corrupt`: another length, or a component that is no finite number.
pub(crate) fn read_vector(bytes: &[u8], dimensions: usize) -> Result<Vec<f32>> {
    let (components, rest) = bytes.as_chunks::<4>();
    if components.len() != dimensions || !rest.is_empty() {
        return Err(bad(f::VECTOR));
    }
    let vector: Vec<f32> = components.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if vector.iter().any(|component| !component.is_finite()) {
        return Err(bad(f::VECTOR));
    }
    Ok(vector)
}

fn head(metadata: &Metadata) -> Result<Vec<u8>> {
    let long = || Error::invalid("the metadata is beyond its limits");
    let short = |length: usize| u8::try_from(length).map_err(|_| long());
    let mut out = vec![SHAPE, short(metadata.len())?];
    let put_text = |out: &mut Vec<u8>, text: &str| -> Result<()> {
        out.extend(u16::try_from(text.len()).map_err(|_| long())?.to_le_bytes());
        out.extend(text.as_bytes());
        Ok(())
    };
    for (key, value) in metadata {
        out.push(short(key.as_str().len())?);
        out.extend(key.as_str().as_bytes());
        match value {
            MetaValue::Bool(value) => out.extend([b'b', u8::from(*value)]),
            MetaValue::Int(value) => {
                out.push(b'i');
                out.extend(value.to_le_bytes());
            }
            MetaValue::Float(value) => {
                out.push(b'f');
                out.extend(value.to_le_bytes());
            }
            MetaValue::Text(text) => {
                out.push(b't');
                put_text(&mut out, text)?;
            }
            MetaValue::List(texts) => {
                out.extend([b'l', short(texts.len())?]);
                for text in texts {
                    put_text(&mut out, text)?;
                }
            }
        }
    }
    Ok(out)
}

/// A head whose version is known.
#[derive(Clone, Copy)]
struct Head<'a> {
    rest: &'a [u8],
}

impl<'a> Head<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self> {
        match bytes.split_first() {
            Some((&SHAPE, rest)) => Ok(Self { rest }),
            Some((version, _)) if *version > SHAPE => Err(Error::unsupported(format!(
                "a memory has shape {version}; this build knows shapes up to {SHAPE}: use a newer one"
            ))),
            _ => Err(bad(f::HEAD)),
        }
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or_else(|| bad(f::HEAD))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| bad(f::HEAD))
    }

    fn byte(&mut self) -> Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn str(&mut self, bytes: usize) -> Result<&'a str> {
        std::str::from_utf8(self.take(bytes)?).map_err(|_| bad(f::HEAD))
    }

    fn text(&mut self) -> Result<String> {
        let length = u16::from_le_bytes(self.array()?);
        Ok(self.str(length.into())?.to_owned())
    }

    fn read(mut self) -> Result<Metadata> {
        let mut metadata = Metadata::new();
        for _ in 0..self.byte()? {
            let length = self.byte()?;
            let key = MetaKey::new(self.str(length.into())?).map_err(|_| bad(f::HEAD))?;
            let value = match self.byte()? {
                b'b' => match self.byte()? {
                    0 => MetaValue::Bool(false),
                    1 => MetaValue::Bool(true),
                    _ => return Err(bad(f::HEAD)),
                },
                b'i' => MetaValue::Int(i64::from_le_bytes(self.array()?)),
                b'f' => {
                    let float = f64::from_le_bytes(self.array()?);
                    if !float.is_finite() {
                        return Err(bad(f::HEAD));
                    }
                    MetaValue::Float(float)
                }
                b't' => MetaValue::Text(self.text()?),
                b'l' => {
                    let texts = self.byte()?;
                    MetaValue::List((0..texts).map(|_| self.text()).collect::<Result<_>>()?)
                }
                _ => return Err(bad(f::HEAD)),
            };
            if metadata.insert(key, value).is_some() {
                return Err(bad(f::HEAD));
            }
        }
        if !self.rest.is_empty() {
            return Err(bad(f::HEAD));
        }
        Ok(metadata)
    }
}

fn bad(field: &'static str) -> Error {
    corrupt("a stored memory has a field that is not what was written").with_context("field", field)
}

fn optional(value: Value, name: &'static str) -> Result<Option<Vec<u8>>> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        _ => Err(bad(name)),
    }
}

fn needed(bytes: Option<Vec<u8>>, name: &'static str) -> Result<Vec<u8>> {
    bytes.ok_or_else(|| bad(name))
}

fn text(bytes: Vec<u8>, name: &'static str) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| bad(name))
}

fn needed_text(bytes: Option<Vec<u8>>, name: &'static str) -> Result<String> {
    text(needed(bytes, name)?, name)
}

fn named<T: FromStr>(bytes: Option<Vec<u8>>, name: &'static str) -> Result<Option<T>> {
    let Some(bytes) = bytes else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).map_err(|_| bad(name))?;
    text.parse().map(Some).map_err(|_| bad(name))
}

fn read_importance(bytes: Vec<u8>) -> Result<f64> {
    text(bytes, f::IMPORTANCE)?
        .parse()
        .ok()
        .filter(|importance| (0.0..=1.0).contains(importance))
        .ok_or_else(|| bad(f::IMPORTANCE))
}

/// A time; `None` for [`f::ALWAYS`].
fn read_time(bytes: Option<Vec<u8>>, name: &'static str) -> Result<Option<Timestamp>> {
    match f::from_sortable(&needed(bytes, name)?).ok_or_else(|| bad(name))? {
        f::ALWAYS => Ok(None),
        micros => Timestamp::from_micros(micros).map(Some).map_err(|_| bad(name)),
    }
}

#[cfg(test)]
mod tests;
