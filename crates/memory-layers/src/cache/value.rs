//! The bytes of a value.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `OMC` and the version, 1 |
//! | 1 | 0: an item, 1: a page |
//! | 16 | the beginning of the SHA-256 of tenant, group and entry |
//! | 8 | when the store was read, in microseconds |
//! | 4 | length of the body |
//! | | the body |
//! | 8 | check sum of all before |
//!
//! Numbers are little endian; lengths within a body are of seven bits a byte, the lowest first.
//! What is not such a value, or is one of another key, is none: it costs a read of the store.
//! Nothing is trusted on the way: no length is allocated that the bytes do not hold.

use memory_core::{
    AgentId, ContentHash, Cursor, Kind, MemoryId, MemoryItem, MetaKey, MetaValue, Page, Revision,
    Role, SessionId, Timestamp, UserId,
};

const MAGIC: [u8; 4] = *b"OMC\x01";
const ITEM: u8 = 0;
const PAGE: u8 = 1;
pub(super) const HEAD: usize = 4 + 1 + 16 + 8 + 4;
const SUM: usize = 8;

/// What is optional in an item, by bits.
const USER: u16 = 1;
const AGENT: u16 = 1 << 1;
const SESSION: u16 = 1 << 2;
const ROLE: u16 = 1 << 3;
const AUTHOR: u16 = 1 << 4;
const PAYLOAD: u16 = 1 << 5;
const IMPORTANCE: u16 = 1 << 6;
const EXPIRES: u16 = 1 << 7;
const REVISION: u16 = 1 << 8;
const EVERY: u16 = (1 << 9) - 1;

const ROLES: [Role; 4] = [Role::User, Role::Assistant, Role::System, Role::Tool];

/// What can be kept.
pub(super) trait Value: Sized {
    /// Its letter in the head.
    const LETTER: u8;
    fn write(&self, to: &mut Bytes);
    fn read(from: &mut Rest<'_>) -> Option<Self>;
}

/// The bytes of a value that was read from the store at `read_at`.
pub(super) fn encode<V: Value>(value: &V, address: &str, read_at: Timestamp) -> Vec<u8> {
    let mut to = Bytes(Vec::with_capacity(512));
    to.0.extend(MAGIC);
    to.0.push(V::LETTER);
    to.0.extend(&ContentHash::of(address).as_bytes()[..16]);
    to.0.extend(read_at.as_micros().to_le_bytes());
    to.0.extend([0; 4]);
    value.write(&mut to);
    let length = u32::try_from(to.0.len() - HEAD).unwrap_or(u32::MAX);
    to.0[HEAD - 4..HEAD].copy_from_slice(&length.to_le_bytes());
    let sum = check_sum(&to.0);
    to.0.extend(sum.to_le_bytes());
    to.0
}

/// A value and when it was read from the store. `None` where the bytes are no value of this key.
pub(super) fn decode<V: Value>(bytes: &[u8], address: &str) -> Option<(V, Timestamp)> {
    let (bytes, sum) = bytes.split_at_checked(bytes.len().checked_sub(SUM)?)?;
    let mut from = Rest(bytes);
    if from.take(4)? != MAGIC || from.byte()? != V::LETTER {
        return None;
    }
    let of = from.take(16)?;
    let read_at = from.time()?;
    let length = usize::try_from(u32::from_le_bytes(from.array()?)).ok()?;
    if length != from.0.len()
        || u64::from_le_bytes(sum.try_into().ok()?) != check_sum(bytes)
        || *of != ContentHash::of(address).as_bytes()[..16]
    {
        return None;
    }
    let value = V::read(&mut from)?;
    from.0.is_empty().then_some((value, read_at))
}

/// Of damage, not of malice. A change within one word of eight bytes is always seen: each step is
/// one to one.
pub(super) fn check_sum(bytes: &[u8]) -> u64 {
    const BEGIN: u64 = 0x9e37_79b9_7f4a_7c15;
    const FACTOR: u64 = 0xff51_afd7_ed55_8ccd;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let mut sum = BEGIN ^ length;
    let mut step = |word: [u8; 8]| {
        sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
        sum ^= sum >> 29;
    };
    let mut words = bytes.chunks_exact(8);
    for word in words.by_ref() {
        step(word.try_into().unwrap_or_default());
    }
    let rest = words.remainder();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    step(last);
    sum
}

/// Bytes that grow.
pub(super) struct Bytes(Vec<u8>);

impl Bytes {
    fn number(&mut self, number: usize) {
        let mut left = number;
        while left >= 0x80 {
            self.0.push(u8::try_from(left & 0x7f).unwrap_or(0) | 0x80);
            left >>= 7;
        }
        self.0.push(u8::try_from(left).unwrap_or(0));
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.extend(text.as_bytes());
    }

    fn time(&mut self, time: Timestamp) {
        self.0.extend(time.as_micros().to_le_bytes());
    }
}

/// Bytes that have not been read yet.
pub(super) struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A length or a count: never more than there are bytes left.
    fn number(&mut self) -> Option<usize> {
        let mut number = 0_usize;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            number |= usize::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return (number <= self.0.len()).then_some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn time(&mut self) -> Option<Timestamp> {
        Timestamp::from_micros(i64::from_le_bytes(self.array()?)).ok()
    }

    fn float(&mut self) -> Option<f64> {
        let float = f64::from_le_bytes(self.array()?);
        float.is_finite().then_some(float)
    }
}

impl Value for MemoryItem {
    const LETTER: u8 = ITEM;

    fn write(&self, to: &mut Bytes) {
        let there = [
            (USER, self.user_id.is_some()),
            (AGENT, self.agent_id.is_some()),
            (SESSION, self.session_id.is_some()),
            (ROLE, self.role.is_some()),
            (AUTHOR, self.author.is_some()),
            (PAYLOAD, self.payload.is_some()),
            (IMPORTANCE, self.importance.is_some()),
            (EXPIRES, self.expires_at.is_some()),
            (REVISION, self.revision.is_some()),
        ];
        let bits = there.iter().filter(|(_, is_there)| *is_there).fold(0, |bits, it| bits | it.0);
        to.0.extend(bits.to_le_bytes());
        to.text(self.id.as_str());
        to.text(self.kind.name());
        to.text(self.content());
        to.0.extend(self.content_hash().as_bytes());
        for time in [self.occurred_at, self.created_at, self.updated_at] {
            to.time(time);
        }
        let texts = [
            self.user_id.as_ref().map(AsRef::as_ref),
            self.agent_id.as_ref().map(AsRef::as_ref),
            self.session_id.as_ref().map(AsRef::as_ref),
            self.author.as_deref(),
            self.revision.as_ref().map(Revision::as_str),
        ];
        texts.into_iter().flatten().for_each(|text| to.text(text));
        if let Some(role) = self.role {
            let place = ROLES.iter().position(|it| *it == role).unwrap_or(ROLES.len());
            to.0.push(u8::try_from(place).unwrap_or(u8::MAX));
        }
        if let Some(payload) = &self.payload {
            to.text(&payload.to_string());
        }
        if let Some(importance) = self.importance {
            to.0.extend(importance.to_le_bytes());
        }
        if let Some(expires_at) = self.expires_at {
            to.time(expires_at);
        }
        to.number(self.metadata.len());
        for (key, value) in &self.metadata {
            to.text(key.as_str());
            write_meta(value, to);
        }
    }

    fn read(from: &mut Rest<'_>) -> Option<Self> {
        let bits = u16::from_le_bytes(from.array()?);
        if bits & !EVERY != 0 {
            return None;
        }
        let has = |bit| bits & bit != 0;
        let id = MemoryId::new(from.text()?).ok()?;
        let kind: Kind = from.text()?.parse().ok()?;
        let content = from.text()?.to_owned();
        let hash = ContentHash::from_bytes(from.array()?);
        let mut item = Self::from_stored(id, content, hash);
        item.kind = kind;
        (item.occurred_at, item.created_at) = (from.time()?, from.time()?);
        item.updated_at = from.time()?;
        if has(USER) {
            item.user_id = Some(UserId::new(from.text()?).ok()?);
        }
        if has(AGENT) {
            item.agent_id = Some(AgentId::new(from.text()?).ok()?);
        }
        if has(SESSION) {
            item.session_id = Some(SessionId::new(from.text()?).ok()?);
        }
        if has(AUTHOR) {
            item.author = Some(from.text()?.to_owned());
        }
        if has(REVISION) {
            item.revision = Some(Revision::new(from.text()?).ok()?);
        }
        if has(ROLE) {
            item.role = Some(*ROLES.get(usize::from(from.byte()?))?);
        }
        if has(PAYLOAD) {
            item.payload = Some(serde_json::from_str(from.text()?).ok()?);
        }
        if has(IMPORTANCE) {
            item.importance = Some(from.float()?);
        }
        if has(EXPIRES) {
            item.expires_at = Some(from.time()?);
        }
        for _ in 0..from.number()? {
            let key = MetaKey::new(from.text()?).ok()?;
            item.metadata.insert(key, read_meta(from)?);
        }
        Some(item)
    }
}

fn write_meta(value: &MetaValue, to: &mut Bytes) {
    match value {
        MetaValue::Bool(value) => to.0.extend([0, u8::from(*value)]),
        MetaValue::Int(value) => {
            to.0.push(1);
            to.0.extend(value.to_le_bytes());
        }
        MetaValue::Float(value) => {
            to.0.push(2);
            to.0.extend(value.to_le_bytes());
        }
        MetaValue::Text(text) => {
            to.0.push(3);
            to.text(text);
        }
        MetaValue::List(texts) => {
            to.0.push(4);
            to.number(texts.len());
            texts.iter().for_each(|text| to.text(text));
        }
    }
}

fn read_meta(from: &mut Rest<'_>) -> Option<MetaValue> {
    Some(match from.byte()? {
        0 => MetaValue::Bool(match from.byte()? {
            0 => false,
            1 => true,
            _ => return None,
        }),
        1 => MetaValue::Int(i64::from_le_bytes(from.array()?)),
        2 => MetaValue::Float(from.float()?),
        3 => MetaValue::Text(from.text()?.to_owned()),
        4 => {
            let count = from.number()?;
            let texts = (0..count).map(|_| from.text().map(str::to_owned));
            MetaValue::List(texts.collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

impl Value for Page {
    const LETTER: u8 = PAGE;

    fn write(&self, to: &mut Bytes) {
        to.number(self.items.len());
        self.items.iter().for_each(|item| item.write(to));
        let next = self.next.as_ref().map_or("", Cursor::as_str);
        to.text(next);
    }

    fn read(from: &mut Rest<'_>) -> Option<Self> {
        let count = from.number()?;
        let items = (0..count).map(|_| MemoryItem::read(from)).collect::<Option<_>>()?;
        let next = from.text()?;
        let next = if next.is_empty() { None } else { Some(next.parse().ok()?) };
        Some(Self { items, next })
    }
}

#[cfg(test)]
mod tests {
    use memory_testkit::generators::Generator;

    use super::*;

    const ADDRESS: &str = "1:t3:i:m1cpm";

    fn now() -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000).unwrap()
    }

    fn full() -> MemoryItem {
        let mut item = MemoryItem::new(MemoryId::new("m/😀:{}\\*").unwrap(), "a text", now())
            .unwrap()
            .with_user(UserId::new("ada").unwrap())
            .with_agent(AgentId::new("bot").unwrap())
            .with_session(SessionId::new("s").unwrap())
            .with_kind("mine".parse().unwrap());
        item.role = Some(Role::Tool);
        item.author = Some("Ada".to_owned());
        item.payload = Some(serde_json::json!({"a": [1, 2.5, null], "b": u64::MAX}));
        item.importance = Some(0.25);
        item.expires_at = Some(Timestamp::MAX);
        item.revision = Some(Revision::from_number(7));
        for (key, value) in [
            ("b", MetaValue::Bool(true)),
            ("i", MetaValue::Int(i64::MIN)),
            ("f", MetaValue::Float(-0.0)),
            ("t", MetaValue::Text("x".repeat(1_500))),
            ("l", MetaValue::List(vec![String::new(), "é".to_owned()])),
        ] {
            item.metadata.insert(MetaKey::new(key).unwrap(), value);
        }
        item
    }

    fn narrow() -> MemoryItem {
        let id = MemoryId::new("m").unwrap();
        let mut item = MemoryItem::from_stored(id, String::new(), ContentHash::of("x"));
        item.user_id = Some(UserId::new("ada").unwrap());
        item
    }

    fn page() -> Page {
        Page { items: vec![full(), narrow()], next: Some("abc".parse().unwrap()) }
    }

    #[test]
    fn values_come_back_as_they_were() {
        for item in [full(), narrow()] {
            let bytes = encode(&item, ADDRESS, now());
            assert_eq!(decode::<MemoryItem>(&bytes, ADDRESS), Some((item, now())));
        }
        for page in [page(), Page::default(), Page { items: vec![full(); 300], next: None }] {
            let bytes = encode(&page, ADDRESS, now());
            assert_eq!(decode::<Page>(&bytes, ADDRESS), Some((page, now())));
        }
        // Compact: little more than its texts, hash and times.
        assert!(encode(&narrow(), ADDRESS, now()).len() < 130);
    }

    #[test]
    fn values_of_another_key_kind_or_version_are_none() {
        let bytes = encode(&full(), ADDRESS, now());
        assert_eq!(decode::<MemoryItem>(&bytes, "1:u3:i:m1cpm"), None, "another tenant");
        assert_eq!(decode::<Page>(&bytes, ADDRESS), None);
        let mut newer = bytes[..bytes.len() - SUM].to_vec();
        newer[3] += 1;
        let sum = check_sum(&newer);
        newer.extend(sum.to_le_bytes());
        assert_eq!(decode::<MemoryItem>(&newer, ADDRESS), None);
    }

    #[test]
    fn damaged_bytes_are_none_and_no_panic() {
        let bytes = encode(&page(), ADDRESS, now());
        for end in 0..bytes.len() {
            assert_eq!(decode::<Page>(&bytes[..end], ADDRESS), None, "cut at {end}");
        }
        for at in 0..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= bit;
                assert_eq!(decode::<Page>(&damaged, ADDRESS), None, "byte {at}");
            }
        }
    }

    #[test]
    fn bytes_with_a_right_sum_and_a_wrong_body_are_no_panic() {
        const SEED: u64 = 7;
        let mut random = Generator::new(SEED);
        let whole = encode(&page(), ADDRESS, now());
        let mut survived = 0;
        for _ in 0..20_000 {
            let mut bytes = whole[..whole.len() - SUM].to_vec();
            for _ in 0..=random.bits() % 3 {
                let at = HEAD + usize::try_from(random.bits()).unwrap_or(0) % (bytes.len() - HEAD);
                bytes[at] = u8::try_from(random.bits() & 0xff).unwrap();
            }
            let sum = check_sum(&bytes);
            bytes.extend(sum.to_le_bytes());
            survived += u32::from(decode::<Page>(&bytes, ADDRESS).is_some());
        }
        // Most changes are within texts, so the bodies were looked at.
        assert!(survived > 1_000, "{survived}, seed {SEED}");
    }

    #[test]
    fn nothing_is_allocated_that_is_not_there() {
        let mut body = Rest(&[0xff, 0xff, 0xff, 0xff, 0x07, 1, 2]);
        assert_eq!(body.number(), None);
        let mut endless = Rest(&[0xff; 64]);
        assert_eq!(endless.number(), None);
    }
}
