//! How the servers of a cache are.

use memory_core::{Health, HealthStatus};
use redis::{Cmd, Value};

use crate::wire::{Call, Effect, Wire};

/// Asks every primary. What cannot be reached is degraded, for the store answers.
pub(super) async fn of(wire: &Wire) -> Health {
    let mut health = Health::healthy();
    let call = Call { operation: "cache_health", context: None };
    let mut sums = Sums::default();
    match wire.each_primary(call, Cmd::new().arg("INFO"), Effect::Reads).await {
        Ok(answers) => {
            for (_, answer) in answers {
                match answer {
                    Ok(answer) => sums.add(text(&answer)),
                    Err(error) => health.lower(HealthStatus::Degraded, unreachable(&error)),
                }
            }
        }
        Err(error) => health.lower(HealthStatus::Degraded, unreachable(&error)),
    }
    sums.tell(&mut health);
    health
}

fn unreachable(error: &memory_core::Error) -> String {
    format!("Redis does not answer, and the store is read: {}", error.message())
}

fn text(answer: &Value) -> &str {
    match answer {
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text,
        Value::BulkString(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        _ => "",
    }
}

/// What is known of the servers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    servers: u64,
    version: String,
    policy: String,
    has_no_limit: bool,
    /// By the names of details.
    numbers: [u64; NUMBERS.len()],
}

/// Details, and the names that Redis has for them.
const NUMBERS: [(&str, &str); 5] = [
    ("memory_bytes", "used_memory"),
    ("memory_limit_bytes", "maxmemory"),
    ("evicted_keys", "evicted_keys"),
    ("hits", "keyspace_hits"),
    ("misses", "keyspace_misses"),
];

impl Sums {
    /// Takes in the answer of a server.
    fn add(&mut self, info: &str) {
        self.servers += 1;
        for line in info.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            for (place, (_, known)) in NUMBERS.iter().enumerate() {
                if name == *known {
                    self.numbers[place] += value.parse().unwrap_or(0);
                }
            }
            match name {
                "redis_version" => value.clone_into(&mut self.version),
                "maxmemory" if value == "0" => self.has_no_limit = true,
                // Of several servers the one whose policy is a trouble.
                "maxmemory_policy" if self.policy != NO_EVICTION => {
                    value.clone_into(&mut self.policy);
                }
                _ => {}
            }
        }
    }

    fn tell(&self, health: &mut Health) {
        if self.servers == 0 {
            return;
        }
        health.detail("servers", self.servers.to_string());
        health.detail("version", self.version.as_str());
        for (place, (detail, _)) in NUMBERS.iter().enumerate() {
            health.detail(*detail, self.numbers[place].to_string());
        }
        health.detail("maxmemory_policy", self.policy.as_str());
        let advice = if self.has_no_limit {
            "the server has no memory limit: set maxmemory, and maxmemory-policy to allkeys-lru or \
             allkeys-lfu"
        } else if self.policy == NO_EVICTION {
            "a full server keeps nothing more: set maxmemory-policy to allkeys-lru or allkeys-lfu"
        } else {
            return;
        };
        health.detail("advice", advice);
    }
}

const NO_EVICTION: &str = "noeviction";

#[cfg(test)]
mod tests {
    use super::*;

    fn of(infos: &[&str]) -> Health {
        let mut sums = Sums::default();
        infos.iter().for_each(|info| sums.add(info));
        let mut health = Health::healthy();
        sums.tell(&mut health);
        health
    }

    #[test]
    fn figures_of_servers_are_added_and_the_worst_policy_is_told() {
        let good = "# Memory\r\nused_memory:10\r\nmaxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n\
                    keyspace_hits:3\r\nkeyspace_misses:x\r\nredis_version:7.0.15\r\n";
        let full =
            "used_memory:5\r\nmaxmemory:100\r\nmaxmemory_policy:noeviction\r\nkeyspace_hits:4";
        let health = of(&[good]);
        assert_eq!(health.details["memory_bytes"], "10");
        assert_eq!(health.details["misses"], "0");
        assert!(!health.details.contains_key("advice"), "{health:?}");
        for infos in [[full, good], [good, full]] {
            let health = of(&infos);
            assert_eq!(health.details["hits"], "7");
            assert_eq!(health.details["servers"], "2");
            assert_eq!(health.details["maxmemory_policy"], "noeviction");
            assert!(health.details["advice"].contains("allkeys-lru"));
            assert_eq!(health.status, HealthStatus::Healthy);
        }
        let boundless = of(&["maxmemory:0\r\nmaxmemory_policy:noeviction\r\n"]);
        assert!(boundless.details["advice"].contains("no memory limit"));
        assert!(of(&[]).details.is_empty());
    }
}
