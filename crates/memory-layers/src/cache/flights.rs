//! One loader a key: who misses what another is just reading, waits for it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memory_core::traits::CacheToken;
use tokio::sync::watch;

use super::protocol::may_join;

/// How a flight stands.
#[derive(Clone, Debug)]
pub(super) enum Landing<V> {
    /// The leader reads the store.
    Pending,
    /// It has read it.
    Value(Arc<V>),
    /// Its read failed.
    Crashed,
}

struct Flight<V> {
    number: u64,
    token: CacheToken,
    landing: watch::Receiver<Landing<V>>,
}

struct Table<V> {
    next: u64,
    flights: HashMap<String, Flight<V>>,
}

/// The flights of a process, by address.
pub(super) struct Flights<V> {
    table: Mutex<Table<V>>,
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self { table: Mutex::new(Table { next: 0, flights: HashMap::new() }) }
    }
}

impl<V> fmt::Debug for Flights<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("under_way", &self.len()).finish()
    }
}

/// What a reader who missed does.
pub(super) enum Role<'a, V> {
    /// It reads the store and tells the others.
    Lead(Lead<'a, V>),
    /// It waits for who does. A closed channel is a leader that was dropped.
    Join(watch::Receiver<Landing<V>>),
}

/// A flight that is led. Dropping it lets those who wait go on by themselves.
pub(super) struct Lead<'a, V> {
    flights: &'a Flights<V>,
    address: String,
    number: u64,
    landing: watch::Sender<Landing<V>>,
}

impl<V> Flights<V> {
    /// Joins the flight of an address if it is under the tokens that the reader saw; else leads one.
    pub(super) fn enter(&self, address: &str, token: CacheToken) -> Role<'_, V> {
        let mut table = self.locked();
        if let Some(flight) = table.flights.get(address)
            && may_join(&flight.token, &token)
        {
            return Role::Join(flight.landing.clone());
        }
        table.next += 1;
        let number = table.next;
        let (sender, landing) = watch::channel(Landing::Pending);
        table.flights.insert(address.to_owned(), Flight { number, token, landing });
        Role::Lead(Lead { flights: self, address: address.to_owned(), number, landing: sender })
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.locked().flights.len()
    }

    fn locked(&self) -> MutexGuard<'_, Table<V>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Lead<'_, V> {
    /// Tells those who wait. Who comes later with the same tokens is told at once, until it is
    /// dropped.
    pub(super) fn land(&self, landing: Landing<V>) {
        self.landing.send_replace(landing);
    }
}

impl<V> Drop for Lead<'_, V> {
    fn drop(&mut self) {
        let mut table = self.flights.locked();
        // Another flight may have taken its place under newer tokens.
        if table.flights.get(&self.address).is_some_and(|flight| flight.number == self.number) {
            table.flights.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn token(byte: u8) -> CacheToken {
        CacheToken { group: [byte; 16], under: [0; 16] }
    }

    fn lead<'a>(flights: &'a Flights<u8>, byte: u8) -> Option<Lead<'a, u8>> {
        match flights.enter("a", token(byte)) {
            Role::Lead(lead) => Some(lead),
            Role::Join(_) => None,
        }
    }

    #[test]
    fn only_the_same_tokens_share_a_flight() {
        let flights = Flights::default();
        let first = lead(&flights, 1).unwrap();
        assert!(lead(&flights, 1).is_none(), "it joins");
        let second = lead(&flights, 2).unwrap();
        drop(first);
        assert_eq!(flights.len(), 1, "the newer one is not removed by the older");
        assert!(lead(&flights, 2).is_none());
        drop(second);
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn a_dropped_leader_closes_its_flight() {
        let flights = Flights::default();
        let first = lead(&flights, 1).unwrap();
        let Role::Join(mut landing) = flights.enter("a", token(1)) else { panic!("it leads") };
        assert!(!landing.has_changed().unwrap());
        first.land(Landing::Value(Arc::new(7)));
        assert!(matches!(&*landing.borrow_and_update(), Landing::Value(value) if **value == 7));
        drop(first);
        assert!(landing.has_changed().is_err());
    }
}
