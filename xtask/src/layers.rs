//! `cargo xtask layers`: which crate of the workspace may use which, held against the graph.
//!
//! [`TABLE`] is the rule and [`check`] the judge, a pure function that knows nothing of cargo. An
//! arrow counts whatever section of the manifest it stands in, optional or for one target only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use anyhow::{Context, Result, bail};

use crate::metadata::{Kind, Metadata};

/// What a crate may use of the workspace.
enum May {
    /// These crates.
    Use(&'static [&'static str]),
    /// Every crate but the test kit.
    UseAll,
    /// Every crate and the test kit: for programs that are never depended on.
    UseAllAndTestkit,
}

/// One row a crate; the order is that of the architecture, from the bottom up.
const TABLE: &[(&str, May)] = &[
    ("memory-core", May::Use(&[])),
    ("memory-distance", May::Use(&[])),
    ("memory-text", May::Use(&[])),
    ("memory-index", May::Use(&["memory-core", "memory-distance", "memory-text"])),
    ("memory-google-auth", May::Use(&["memory-core"])),
    ("memory-layers", May::Use(&["memory-core"])),
    ("memory-search", May::Use(&["memory-core", "memory-text"])),
    ("memory-maintenance", May::Use(&["memory-core"])),
    ("memory-sqlite", May::Use(&["memory-core", "memory-distance", "memory-text", "memory-index"])),
    ("memory-firestore", May::Use(&["memory-core", "memory-google-auth"])),
    ("memory-redis", May::Use(&["memory-core", "memory-text"])),
    (
        "memory-vector",
        May::Use(&["memory-core", "memory-index", "memory-text", "memory-google-auth"]),
    ),
    ("memory-embed", May::Use(&["memory-core", "memory-google-auth"])),
    (TESTKIT, May::Use(&["memory-core"])),
    ("orchestra-memory", May::UseAll),
    ("orchestra-memory-cli", May::Use(&["orchestra-memory"])),
    ("xtask", May::Use(&[])),
    ("benches", May::UseAllAndTestkit),
    ("fuzz-targets", May::UseAllAndTestkit),
];

/// The crates that keep data; none of them may know another.
const BACK_ENDS: &[&str] = &["memory-sqlite", "memory-firestore", "memory-redis", "memory-vector"];

/// The test kit, which only tests may use.
const TESTKIT: &str = "memory-testkit";

/// The crate that no client and no runtime may reach.
const CORE: &str = "memory-core";

/// Clients and runtimes, by name.
const CLIENTS: &[&str] = &[
    "actix-rt",
    "async-executor",
    "async-global-executor",
    "async-std",
    "candle-core",
    "curl",
    "firestore",
    "fred",
    "glommio",
    "google-cloud-auth",
    "h2",
    "hyper",
    "isahc",
    "libsqlite3-sys",
    "mio",
    "monoio",
    "ort",
    "redis",
    "reqwest",
    "rusqlite",
    "smol",
    "sqlx",
    "tokio",
    "tonic",
    "ureq",
];

/// Clients and runtimes that come as families of crates.
const CLIENT_FAMILIES: &[&str] =
    &["gcloud-", "google-cloud-", "googleapis-", "hyper-", "tokio-", "tonic-"];

/// The graph as the check sees it.
#[derive(Clone, Default)]
pub(crate) struct Graph {
    /// The crates of the workspace, each with what its manifest names, of the workspace or not.
    members: BTreeMap<String, BTreeSet<(String, Kind)>>,
    /// Normal dependencies as resolved; a node is `name@version`.
    resolved: BTreeMap<String, BTreeSet<String>>,
}

/// An arrow or a crate that the table does not allow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A crate of the workspace that the table does not know.
    Unlisted(String),
    /// An arrow that the table does not have.
    Arrow(String, String, Kind),
    /// A back end that uses another one.
    BackEnds(String, String, Kind),
    /// The test kit as more than a dev-dependency.
    Testkit(String, Kind),
    /// A client or runtime that the core reaches, with the way to it.
    Client(Vec<String>),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted(name) => {
                write!(f, "{name} has no row in the table of crates (xtask/src/layers.rs)")
            }
            Self::Arrow(from, to, kind) => {
                write!(f, "{from} -> {to} ({}) is not in the table", section(*kind))
            }
            Self::BackEnds(from, to, kind) => {
                write!(f, "{from} -> {to} ({}): a back end uses another", section(*kind))
            }
            Self::Testkit(from, kind) => write!(
                f,
                "{from} -> {TESTKIT} ({}): the test kit may only be a dev-dependency",
                section(*kind)
            ),
            Self::Client(path) => {
                write!(f, "{CORE} reaches a client or runtime: {}", path.join(" -> "))
            }
        }
    }
}

/// Checks the workspace, with planted arrows where the arguments ask for them.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut graph = Graph::of(&Metadata::load()?);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let plant = match arg.strip_prefix("--plant") {
            Some("") => args.next().context("--plant needs FROM:TO")?.as_str(),
            Some(value) if value.starts_with('=') => &value[1..],
            _ => bail!("unknown argument `{arg}`; known: --plant FROM:TO"),
        };
        let (from, to) = plant.split_once(':').context("--plant needs FROM:TO")?;
        graph.plant(from, to)?;
        println!("planted: {from} -> {to}");
    }
    judge(&graph)
}

/// Checks the workspace as it is.
pub(crate) fn check_workspace(metadata: &Metadata) -> Result<()> {
    judge(&Graph::of(metadata))
}

fn judge(graph: &Graph) -> Result<()> {
    // Without it, that no client reaches the core would be true of nothing.
    if !graph.members.contains_key(CORE) {
        bail!("layers: the workspace has no crate {CORE}");
    }
    let violations = check(graph);
    if violations.is_empty() {
        for (name, arrows) in graph.arrows() {
            println!("  {name:<22} {}", if arrows.is_empty() { "-" } else { &arrows });
        }
        let reached = graph.reached_by_core();
        println!(
            "layers: {} crates as the table allows; {} crates below {CORE}, no client or runtime",
            graph.members.len(),
            reached.len()
        );
        return Ok(());
    }
    for violation in &violations {
        println!("  {violation}");
    }
    bail!("layers: {} violation(s)", violations.len())
}

/// Every way in which the graph departs from the table.
pub(crate) fn check(graph: &Graph) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (from, arrows) in &graph.members {
        let Some(may) = row(from) else {
            violations.push(Violation::Unlisted(from.clone()));
            continue;
        };
        for (to, kind) in arrows {
            // A crate that is neither a member nor known to the table is an outside dependency.
            if graph.members.contains_key(to) || row(to).is_some() {
                violations.extend(judge_arrow(from, may, to, *kind));
            }
        }
    }
    violations.extend(
        graph
            .reached_by_core()
            .into_values()
            .filter(|path| path.last().is_some_and(|name| is_client(name)))
            .map(Violation::Client),
    );
    violations
}

fn judge_arrow(from: &str, may: &May, to: &str, kind: Kind) -> Option<Violation> {
    let owned = || (from.to_owned(), to.to_owned());
    if BACK_ENDS.contains(&from) && BACK_ENDS.contains(&to) && from != to {
        let (from, to) = owned();
        return Some(Violation::BackEnds(from, to, kind));
    }
    let allowed = if to == TESTKIT {
        match may {
            May::UseAllAndTestkit => true,
            May::UseAll if kind == Kind::Dev => true,
            // Whoever may know the traits may test itself against them.
            May::Use(list) if kind == Kind::Dev => list.contains(&CORE),
            May::UseAll => return Some(Violation::Testkit(from.to_owned(), kind)),
            May::Use(list) if list.contains(&CORE) => {
                return Some(Violation::Testkit(from.to_owned(), kind));
            }
            May::Use(_) => false,
        }
    } else {
        match may {
            May::Use(list) => list.contains(&to),
            May::UseAll => to.starts_with("memory-"),
            May::UseAllAndTestkit => to.starts_with("memory-") || to.starts_with("orchestra-"),
        }
    };
    let (from, to) = owned();
    (!allowed).then_some(Violation::Arrow(from, to, kind))
}

fn row(name: &str) -> Option<&'static May> {
    TABLE.iter().find(|(row, _)| *row == name).map(|(_, may)| may)
}

fn is_client(name: &str) -> bool {
    CLIENTS.contains(&name) || CLIENT_FAMILIES.iter().any(|family| name.starts_with(family))
}

fn section(kind: Kind) -> &'static str {
    match kind {
        Kind::Normal => "dependencies",
        Kind::Build => "build-dependencies",
        Kind::Dev => "dev-dependencies",
    }
}

fn name_of(node: &str) -> &str {
    node.split('@').next().unwrap_or(node)
}

impl Graph {
    /// The part of cargo's answer that the check needs.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let mut graph = Self::default();
        for package in metadata.packages.values() {
            if package.member {
                let declared = package.declared.iter().cloned().collect();
                graph.members.insert(package.name.clone(), declared);
            }
            let normal = package.resolved.iter().filter(|(_, kind)| *kind == Kind::Normal);
            let targets = normal
                .filter_map(|(id, _)| metadata.packages.get(id))
                .map(|target| format!("{}@{}", target.name, target.version))
                .collect();
            graph.resolved.insert(format!("{}@{}", package.name, package.version), targets);
        }
        graph
    }

    /// Adds an arrow that the workspace does not have.
    ///
    /// # Errors
    /// When `from` is no crate of the graph: the planted arrow would prove nothing.
    fn plant(&mut self, from: &str, to: &str) -> Result<()> {
        let starts: Vec<_> =
            self.resolved.keys().filter(|node| name_of(node) == from).cloned().collect();
        if starts.is_empty() {
            bail!("no crate `{from}` in the graph to plant an arrow on");
        }
        let known = self.resolved.keys().find(|node| name_of(node) == to).cloned();
        let target = known.unwrap_or_else(|| to.to_owned());
        for start in starts {
            self.resolved.entry(start).or_default().insert(target.clone());
        }
        if let Some(arrows) = self.members.get_mut(from) {
            arrows.insert((to.to_owned(), Kind::Normal));
        }
        Ok(())
    }

    /// Each crate with the crates of the workspace that it uses, for the eye.
    fn arrows(&self) -> Vec<(&str, String)> {
        let show = |(to, kind): &(String, Kind)| {
            self.members.contains_key(to).then(|| match kind {
                Kind::Normal => to.clone(),
                Kind::Build => format!("{to} (build)"),
                Kind::Dev => format!("{to} (dev)"),
            })
        };
        let line = |arrows: &BTreeSet<_>| arrows.iter().filter_map(show).collect::<Vec<_>>();
        self.members.iter().map(|(name, arrows)| (name.as_str(), line(arrows).join(", "))).collect()
    }

    /// Every crate that the core reaches through normal dependencies, with the way to it.
    fn reached_by_core(&self) -> BTreeMap<String, Vec<String>> {
        let mut reached: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut queue: VecDeque<(String, Vec<String>)> = self
            .resolved
            .keys()
            .filter(|node| name_of(node) == CORE)
            .map(|node| (node.clone(), vec![CORE.to_owned()]))
            .collect();
        while let Some((node, path)) = queue.pop_front() {
            for target in self.resolved.get(&node).into_iter().flatten() {
                if !reached.contains_key(target) {
                    let mut path = path.clone();
                    path.push(name_of(target).to_owned());
                    reached.insert(target.clone(), path.clone());
                    queue.push_back((target.clone(), path));
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace of the allowed arrows, to plant others on.
    fn house() -> Graph {
        let arrows = [
            ("memory-core", "serde", Kind::Normal),
            ("memory-index", "memory-core", Kind::Normal),
            ("memory-index", "memory-testkit", Kind::Dev),
            ("memory-sqlite", "memory-core", Kind::Normal),
            ("memory-sqlite", "memory-index", Kind::Normal),
            ("memory-sqlite", "memory-testkit", Kind::Dev),
            ("memory-redis", "memory-core", Kind::Normal),
            ("memory-testkit", "memory-core", Kind::Normal),
            ("orchestra-memory", "memory-sqlite", Kind::Normal),
            ("orchestra-memory", "memory-testkit", Kind::Dev),
            ("orchestra-memory-cli", "orchestra-memory", Kind::Normal),
            ("xtask", "anyhow", Kind::Normal),
            ("benches", "orchestra-memory", Kind::Normal),
            ("benches", "memory-testkit", Kind::Normal),
            ("memory-text", "memory-text", Kind::Normal),
        ];
        let mut graph = Graph::default();
        for (from, to, kind) in arrows {
            let members = graph.members.entry(from.to_owned()).or_default();
            if from != to {
                members.insert((to.to_owned(), kind));
            }
            let node = graph.resolved.entry(format!("{from}@0.1.0")).or_default();
            if kind == Kind::Normal && from != to {
                let version = if row(to).is_some() { "0.1.0" } else { "1.0.0" };
                node.insert(format!("{to}@{version}"));
            }
        }
        graph
    }

    fn with(from: &str, to: &str, kind: Kind) -> Vec<Violation> {
        let mut graph = house();
        graph.members.entry(from.to_owned()).or_default().insert((to.to_owned(), kind));
        check(&graph)
    }

    #[test]
    fn the_allowed_arrows_pass() {
        assert_eq!(check(&house()), []);
    }

    #[test]
    fn an_arrow_upwards_is_found_in_every_section() {
        for kind in [Kind::Normal, Kind::Build, Kind::Dev] {
            for (from, to) in [
                ("memory-core", "memory-text"),
                ("memory-index", "memory-sqlite"),
                ("memory-testkit", "memory-sqlite"),
                ("orchestra-memory-cli", "memory-core"),
                ("xtask", "memory-core"),
                ("orchestra-memory", "orchestra-memory-cli"),
                ("orchestra-memory", "benches"),
                ("benches", "xtask"),
            ] {
                let expected = Violation::Arrow(from.into(), to.into(), kind);
                assert_eq!(with(from, to, kind), [expected]);
            }
        }
    }

    #[test]
    fn a_back_end_that_uses_another_is_named_as_such() {
        let found = with("memory-redis", "memory-sqlite", Kind::Dev);
        let expected =
            Violation::BackEnds("memory-redis".into(), "memory-sqlite".into(), Kind::Dev);
        assert_eq!(found, [expected]);
    }

    #[test]
    fn the_test_kit_is_a_dev_dependency_of_crates_that_know_the_core() {
        assert_eq!(with("memory-redis", TESTKIT, Kind::Dev), []);
        for from in ["memory-sqlite", "orchestra-memory"] {
            for kind in [Kind::Normal, Kind::Build] {
                assert_eq!(with(from, TESTKIT, kind), [Violation::Testkit(from.into(), kind)]);
            }
        }
        for from in ["memory-core", "memory-text", "orchestra-memory-cli", "xtask"] {
            let expected = Violation::Arrow(from.into(), TESTKIT.into(), Kind::Dev);
            assert_eq!(with(from, TESTKIT, Kind::Dev), [expected]);
        }
    }

    #[test]
    fn a_crate_without_a_row_is_found_and_so_is_an_arrow_to_it() {
        let mut graph = house();
        graph.members.insert("memory-extra".into(), BTreeSet::new());
        assert_eq!(check(&graph), [Violation::Unlisted("memory-extra".into())]);
        graph.plant("memory-sqlite", "memory-extra").unwrap();
        let arrow = Violation::Arrow("memory-sqlite".into(), "memory-extra".into(), Kind::Normal);
        assert_eq!(check(&graph), [Violation::Unlisted("memory-extra".into()), arrow]);
    }

    #[test]
    fn a_client_below_the_core_is_found_at_any_depth_with_its_way() {
        let mut graph = house();
        graph.resolved.insert("serde@1.0.0".into(), ["glue@1.0.0".into()].into());
        assert_eq!(check(&graph), []);
        graph.resolved.insert("glue@1.0.0".into(), ["tokio-util@0.7.0".into()].into());
        let way = ["memory-core", "serde", "glue", "tokio-util"].map(str::to_owned).to_vec();
        assert_eq!(check(&graph), [Violation::Client(way)]);
    }

    #[test]
    fn every_client_of_a_back_end_is_known_as_one() {
        for name in [
            "firestore",
            "google-cloud-auth",
            "googleapis-tonic-google-firestore-v1",
            "reqwest",
            "rusqlite",
            "tonic",
            "tonic-prost",
            "ureq",
        ] {
            assert!(is_client(name), "{name}");
            let mut graph = house();
            graph.plant("memory-core", name).unwrap();
            assert_eq!(check(&graph).len(), 1, "{name}");
        }
        assert!(!is_client("serde"));
    }

    #[test]
    fn a_client_elsewhere_is_no_matter() {
        let mut graph = house();
        graph.plant("memory-sqlite", "rusqlite").unwrap();
        assert_eq!(check(&graph), []);
        graph.plant("memory-core", "rusqlite").unwrap();
        assert_eq!(check(&graph).len(), 1);
    }

    #[test]
    fn a_cycle_ends() {
        let mut graph = house();
        graph.resolved.insert("serde@1.0.0".into(), ["memory-core@0.1.0".into()].into());
        assert_eq!(check(&graph), []);
        assert_eq!(graph.reached_by_core().len(), 2);
    }

    #[test]
    fn an_arrow_is_planted_only_on_a_crate_that_exists() {
        let mut graph = house();
        assert!(graph.plant("memory-cor", "tokio").is_err());
        graph.plant("memory-core", "memory-sqlite").unwrap();
        let arrow = Violation::Arrow("memory-core".into(), "memory-sqlite".into(), Kind::Normal);
        assert_eq!(check(&graph), [arrow]);
    }

    #[test]
    fn a_graph_without_the_core_proves_nothing() {
        assert!(judge(&house()).is_ok());
        assert!(judge(&Graph::default()).is_err());
    }

    #[test]
    fn every_name_in_the_table_has_a_row() {
        for (name, may) in TABLE {
            if let May::Use(list) = may {
                for target in *list {
                    assert!(row(target).is_some(), "{name} -> {target}");
                    assert_ne!(name, target);
                }
            }
        }
        assert!(BACK_ENDS.iter().all(|name| row(name).is_some()));
    }
}
