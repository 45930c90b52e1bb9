//! A cluster: which node has a slot, and where a redirection leads.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use memory_core::{Error, ErrorKind, Result};
use redis::aio::ConnectionManager;
use redis::{Cmd, ErrorKind as Kind, RedisError, RedisResult, Value};

use super::{Dialling, send, send_all};
use crate::BACKEND;
use crate::settings::RedisSettings;
use crate::url::RedisUrl;

/// The slots of a cluster, as its specification has them.
const SLOTS: u16 = 16_384;

/// Redirections that one request follows. A slot on its way from one node to another takes two.
const REDIRECTIONS: usize = 5;

/// Host and port of a node.
type Address = (String, u16);

/// The nodes of a cluster and who has which slot.
pub(super) struct Cluster {
    url: RedisUrl,
    seeds: Vec<Address>,
    dialling: Dialling,
    nodes: Mutex<BTreeMap<Address, ConnectionManager>>,
    map: Mutex<Arc<Map>>,
    /// Held by the call that asks for the slots, so that others wait for its answer.
    asking: tokio::sync::Mutex<()>,
}

/// Who has which slots: first, last, primary.
#[derive(Debug, Default, PartialEq)]
struct Map {
    ranges: Vec<(u16, u16, Address)>,
}

impl Map {
    fn owner(&self, slot: u16) -> Option<&Address> {
        let holds = |range: &&(u16, u16, Address)| (range.0..=range.1).contains(&slot);
        self.ranges.iter().find(holds).map(|range| &range.2)
    }

    fn primaries(&self) -> Vec<Address> {
        let mut primaries: Vec<_> = self.ranges.iter().map(|range| range.2.clone()).collect();
        primaries.sort_unstable();
        primaries.dedup();
        primaries
    }

    /// Reads the answer to `CLUSTER SLOTS`, which `asked` gave.
    fn read(answer: &Value, asked: &Address) -> Option<Self> {
        let Value::Array(rows) = answer else { return None };
        let mut ranges = Vec::with_capacity(rows.len());
        for row in rows {
            let Value::Array(row) = row else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(node), ..] = &row[..] else {
                return None;
            };
            let [host, Value::Int(port), ..] = &node[..] else { return None };
            let host = match host {
                Value::BulkString(host) => String::from_utf8(host.clone()).ok()?,
                Value::SimpleString(host) => host.clone(),
                _ => String::new(),
            };
            // A node that does not know its own name has that by which it was reached.
            let host = if host.is_empty() || host == "?" { asked.0.clone() } else { host };
            let slot = |number: i64| u16::try_from(number).ok().filter(|slot| *slot < SLOTS);
            ranges.push((slot(*first)?, slot(*last)?, (host, u16::try_from(*port).ok()?)));
        }
        Some(Self { ranges })
    }
}

/// The slot of a key: of what stands between its first brace and the next closing one.
pub(super) fn slot(key: &str) -> u16 {
    let bytes = key.as_bytes();
    let tag = bytes.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &bytes[open + 1..];
        rest.iter().position(|byte| *byte == b'}').filter(|end| *end > 0).map(|end| &rest[..end])
    });
    crc16(tag.unwrap_or(bytes)) % SLOTS
}

/// CRC-16/XMODEM: polynomial 0x1021, from 0.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| {
            let carry = sum & 0x8000 != 0;
            (sum << 1) ^ if carry { 0x1021 } else { 0 }
        })
    })
}

/// Where a refusal says that the slot is, and whether for this request alone.
fn redirection(error: &RedisError) -> Option<(Address, bool)> {
    let is_ask = match error.code()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let (node, _) = error.redirect_node()?;
    let (host, port) = node.rsplit_once(':')?;
    Some(((host.to_owned(), port.parse().ok()?), is_ask))
}

/// Whether the map may be out of date when a node says this or nothing.
fn may_have_moved(error: &RedisError) -> bool {
    error.is_io_error() || matches!(error.code(), Some("CLUSTERDOWN" | "READONLY" | "MASTERDOWN"))
}

fn unknown_slots() -> RedisError {
    RedisError::from((Kind::ClusterConnectionNotFound, "no node tells who has the slot"))
}

impl Cluster {
    pub(super) fn new(settings: &RedisSettings, dialling: Dialling) -> Result<Self> {
        let mut seeds = vec![settings.url.address()];
        for node in &settings.nodes {
            let address = node.rsplit_once(':').and_then(|(host, port)| {
                Some((host.to_owned(), port.parse::<u16>().ok()?)).filter(|_| !host.is_empty())
            });
            seeds.push(address.ok_or_else(|| {
                Error::new(ErrorKind::Config, "`redis.nodes` are HOST:PORT each")
                    .with_backend(BACKEND)
            })?);
        }
        Ok(Self {
            url: settings.url.clone(),
            seeds,
            dialling,
            nodes: Mutex::default(),
            map: Mutex::default(),
            asking: tokio::sync::Mutex::new(()),
        })
    }

    fn node(&self, address: &Address) -> RedisResult<ConnectionManager> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(node) = nodes.get(address) {
            return Ok(node.clone());
        }
        let info = self.url.info_at(&address.0, address.1);
        let node = info.and_then(|info| self.dialling.node(info)).map_err(|_| {
            RedisError::from((Kind::InvalidClientConfig, "a node's address cannot be used"))
        })?;
        nodes.insert(address.clone(), node.clone());
        Ok(node)
    }

    fn known(&self) -> Arc<Map> {
        Arc::clone(&self.map.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the nodes for the slots, unless another call has done so since `seen` was read.
    async fn ask(&self, seen: &Arc<Map>) -> RedisResult<Arc<Map>> {
        let _asking = self.asking.lock().await;
        let known = self.known();
        if !Arc::ptr_eq(&known, seen) {
            return Ok(known);
        }
        let mut addresses = known.primaries();
        let others: Vec<_> =
            self.seeds.iter().filter(|seed| !addresses.contains(seed)).cloned().collect();
        addresses.extend(others);
        {
            // Replicas that were named before: one of them may be the primary by now.
            let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
            let more: Vec<_> =
                nodes.keys().filter(|node| !addresses.contains(node)).cloned().collect();
            addresses.extend(more);
        }
        let mut command = redis::cmd("CLUSTER");
        command.arg("SLOTS");
        let mut last = unknown_slots();
        for address in addresses {
            let answer = async { send(&self.node(&address)?, &command).await }.await;
            match answer.map(|answer| Map::read(&answer, &address)) {
                Ok(Some(map)) if !map.ranges.is_empty() => {
                    return Ok(self.keep(map));
                }
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Takes a map over, and lets go of the nodes that are no longer named.
    fn keep(&self, map: Map) -> Arc<Map> {
        let map = Arc::new(map);
        let primaries = map.primaries();
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|address, _| primaries.contains(address) || self.seeds.contains(address));
        drop(nodes);
        *self.map.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&map);
        map
    }

    async fn owner(&self, slot: u16) -> RedisResult<(Address, Arc<Map>)> {
        let map = self.known();
        if let Some(owner) = map.owner(slot) {
            return Ok((owner.clone(), map));
        }
        let map = self.ask(&map).await?;
        let owner = map.owner(slot).cloned().ok_or_else(unknown_slots)?;
        Ok((owner, map))
    }

    /// Sends a request to the owner of a key's slot and follows redirections.
    pub(super) async fn send(&self, key: &str, command: &Cmd) -> RedisResult<Value> {
        let mut answers = self.send_all(key, std::slice::from_ref(command)).await?;
        answers.pop().unwrap_or_else(|| Err(unknown_slots()))
    }

    /// Sends requests to the owner of a key's slot in one round trip; those that are redirected
    /// follow, for they were not done.
    pub(super) async fn send_all(
        &self,
        key: &str,
        commands: &[Cmd],
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let slot = slot(key);
        let mut answers: Vec<Option<RedisResult<Value>>> = commands.iter().map(|_| None).collect();
        let (mut address, mut map) = self.owner(slot).await?;
        let mut asking = false;
        for hop in 0..=REDIRECTIONS {
            let open: Vec<usize> =
                (0..commands.len()).filter(|at| answers[*at].is_none()).collect();
            let found = self.visit(&address, commands, &open, asking).await;
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    if may_have_moved(&error) {
                        // For the calls that follow; this one's outcome stands.
                        self.refresh(&map).await;
                    }
                    return Err(error);
                }
            };
            let mut next = None;
            for (at, answer) in open.into_iter().zip(found) {
                if let Err(error) = &answer {
                    if let Some(to) = redirection(error).filter(|_| hop < REDIRECTIONS) {
                        next = Some(to);
                        continue;
                    }
                    if may_have_moved(error) {
                        self.refresh(&map).await;
                    }
                }
                answers[at] = Some(answer);
            }
            let Some((to, is_ask)) = next else { break };
            if !is_ask {
                // The node that says so knows where it is; the map is asked for as a whole.
                map = self.ask(&map).await.unwrap_or(map);
            }
            (address, asking) = (to, is_ask);
        }
        Ok(answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| Err(unknown_slots())))
            .collect())
    }

    /// Asks for the slots once; whoever cannot is told by the next call.
    async fn refresh(&self, seen: &Arc<Map>) {
        if self.ask(seen).await.is_err() {
            tracing::debug!(target: "memory_redis::wire", "no node tells who has the slots");
        }
    }

    async fn visit(
        &self,
        address: &Address,
        commands: &[Cmd],
        open: &[usize],
        asking: bool,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let node = self.node(address)?;
        if !asking {
            if let [at] = open {
                return match send(&node, &commands[*at]).await {
                    Err(error) if error.code().is_none() => Err(error),
                    answer => Ok(vec![answer]),
                };
            }
            let sent: Vec<&Cmd> = open.iter().map(|at| &commands[*at]).collect();
            return send_all(&node, &sent).await;
        }
        let before = redis::cmd("ASKING");
        let sent: Vec<&Cmd> = open.iter().flat_map(|at| [&before, &commands[*at]]).collect();
        let answers = send_all(&node, &sent).await?;
        Ok(answers.into_iter().skip(1).step_by(2).collect())
    }

    /// Sends one command to every primary, side by side.
    pub(super) async fn each_primary(
        &self,
        command: &Cmd,
    ) -> RedisResult<Vec<(String, RedisResult<Value>)>> {
        let map = self.known();
        let map = if map.ranges.is_empty() { self.ask(&map).await? } else { map };
        let each = map.primaries().into_iter().map(|address| async move {
            let answer = async { send(&self.node(&address)?, command).await }.await;
            (format!("{}:{}", address.0, address.1), answer)
        });
        let answers = join_all(each).await;
        if answers.iter().any(|(_, answer)| answer.as_ref().is_err_and(may_have_moved)) {
            self.refresh(&map).await;
        }
        Ok(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot("foo"), 12_182);
        assert_eq!(slot("om:{foo}:m:x"), slot("foo"));
        assert_eq!(slot("{}x"), crc16(b"{}x") % SLOTS, "an empty tag is none");
        assert_eq!(slot("a{b{c}d}"), crc16(b"b{c") % SLOTS);
    }

    #[test]
    fn the_map_is_read_and_what_is_no_map_is_not() {
        let node = |host: &str, port| {
            Value::Array(vec![Value::BulkString(host.as_bytes().to_vec()), Value::Int(port)])
        };
        let row = |first, last, node| Value::Array(vec![Value::Int(first), Value::Int(last), node]);
        let asked = ("seed".to_owned(), 1);
        let answer =
            Value::Array(vec![row(0, 99, node("a", 7_000)), row(100, 16_383, node("", 7_001))]);
        let map = Map::read(&answer, &asked).unwrap();
        assert_eq!(map.owner(99), Some(&("a".to_owned(), 7_000)));
        assert_eq!(map.owner(100), Some(&("seed".to_owned(), 7_001)));
        assert_eq!(map.primaries().len(), 2);
        assert_eq!(Map::default().owner(5), None);
        for bad in [
            Value::Nil,
            Value::Array(vec![Value::Nil]),
            Value::Array(vec![row(0, 16_384, node("a", 1))]),
            Value::Array(vec![row(0, 1, node("a", -1))]),
            Value::Array(vec![row(0, 1, Value::Nil)]),
        ] {
            assert_eq!(Map::read(&bad, &asked), None);
        }
    }
}
