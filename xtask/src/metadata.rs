//! What `cargo metadata` says about the workspace, read once into plain structures.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell;

/// The workspace and everything it depends on, with all features of all crates, for all targets.
pub(crate) struct Metadata {
    /// Every package of the resolved graph, by cargo's id.
    pub(crate) packages: BTreeMap<String, Package>,
    /// Cargo's target folder.
    pub(crate) target_directory: PathBuf,
}

/// One package of the graph.
pub(crate) struct Package {
    /// The crate's name.
    pub(crate) name: String,
    /// The crate's version.
    pub(crate) version: String,
    /// The licence expression, where the manifest has one.
    pub(crate) licence: Option<String>,
    /// Whether it belongs to this workspace.
    pub(crate) member: bool,
    /// Its `Cargo.toml`.
    pub(crate) manifest_path: PathBuf,
    /// The `rust-version` it declares.
    pub(crate) rust_version: Option<String>,
    /// The names of its features, sorted.
    pub(crate) features: Vec<String>,
    /// What its manifest asks for, optional and target-specific dependencies included.
    pub(crate) declared: Vec<(String, Kind)>,
    /// What was resolved for it: package id and kind.
    pub(crate) resolved: Vec<(String, Kind)>,
}

/// The section of a manifest that a dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `[dependencies]`
    Normal,
    /// `[build-dependencies]`
    Build,
    /// `[dev-dependencies]`
    Dev,
}

impl Metadata {
    /// Asks cargo.
    pub(crate) fn load() -> Result<Self> {
        let text = shell::capture(shell::cargo().args([
            "metadata",
            "--format-version=1",
            "--all-features",
        ]))?;
        let value: Value = serde_json::from_str(&text).context("cargo metadata wrote no JSON")?;
        Self::from_value(&value)
    }

    /// Reads the document that cargo writes.
    pub(crate) fn from_value(value: &Value) -> Result<Self> {
        let members: Vec<&str> =
            array(value, "workspace_members")?.iter().filter_map(Value::as_str).collect();
        let mut resolved = BTreeMap::new();
        let resolve = value.get("resolve").context("cargo metadata has no `resolve`")?;
        for node in array(resolve, "nodes")? {
            resolved.insert(text(node, "id")?, resolved_of(node)?);
        }
        let mut packages = BTreeMap::new();
        for package in array(value, "packages")? {
            let id = text(package, "id")?;
            // Cargo lists packages that no feature or target of the workspace reaches; those have
            // no node.
            let Some(resolved) = resolved.remove(&id) else { continue };
            let member = members.contains(&id.as_str());
            packages.insert(id, package_of(package, member, resolved)?);
        }
        let target_directory = text(value, "target_directory")?.into();
        Ok(Self { packages, target_directory })
    }

    /// The crates of this workspace, by name.
    pub(crate) fn members(&self) -> Vec<&Package> {
        let mut members: Vec<_> = self.packages.values().filter(|package| package.member).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }
}

fn package_of(value: &Value, member: bool, resolved: Vec<(String, Kind)>) -> Result<Package> {
    let optional = |key| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let features = value.get("features").and_then(Value::as_object);
    let declared = array(value, "dependencies")?
        .iter()
        .map(|dependency| Ok((text(dependency, "name")?, kind(dependency))))
        .collect::<Result<_>>()?;
    Ok(Package {
        name: text(value, "name")?,
        version: text(value, "version")?,
        licence: optional("license"),
        member,
        manifest_path: text(value, "manifest_path")?.into(),
        rust_version: optional("rust_version"),
        features: features.map(|map| map.keys().cloned().collect()).unwrap_or_default(),
        declared,
        resolved,
    })
}

fn resolved_of(node: &Value) -> Result<Vec<(String, Kind)>> {
    let mut resolved = Vec::new();
    for dependency in array(node, "deps")? {
        let id = text(dependency, "pkg")?;
        for entry in array(dependency, "dep_kinds")? {
            resolved.push((id.clone(), kind(entry)));
        }
    }
    Ok(resolved)
}

fn kind(value: &Value) -> Kind {
    match value.get("kind").and_then(Value::as_str) {
        Some("dev") => Kind::Dev,
        Some("build") => Kind::Build,
        _ => Kind::Normal,
    }
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value
        .get(key)
        .and_then(Value::as_array)
        .with_context(|| format!("cargo metadata: no list `{key}`"))
}

fn text(value: &Value, key: &str) -> Result<String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("cargo metadata: no text `{key}`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn packages_are_read_with_their_kinds_and_unreached_ones_are_left_out() {
        let value = json!({
            "workspace_members": ["a 0.1"],
            "target_directory": "target",
            "packages": [
                { "id": "a 0.1", "name": "a", "version": "0.1", "license": "MIT",
                  "manifest_path": "a/Cargo.toml", "rust_version": "1.95",
                  "features": { "x": [], "default": [] },
                  "dependencies": [
                    { "name": "b", "kind": null }, { "name": "b", "kind": "dev" } ] },
                { "id": "b 1", "name": "b", "version": "1", "license": null,
                  "manifest_path": "b/Cargo.toml", "features": {}, "dependencies": [] },
                { "id": "c 1", "name": "c", "version": "1", "license": null,
                  "manifest_path": "c/Cargo.toml", "features": {}, "dependencies": [] },
            ],
            "resolve": { "nodes": [
                { "id": "a 0.1", "deps": [
                    { "pkg": "b 1", "dep_kinds": [{ "kind": null }, { "kind": "build" }] } ] },
                { "id": "b 1", "deps": [] },
            ] },
        });
        let metadata = Metadata::from_value(&value).unwrap();
        assert_eq!(metadata.packages.len(), 2);
        let members = metadata.members();
        assert_eq!(members.len(), 1);
        let a = members[0];
        assert_eq!((a.name.as_str(), a.licence.as_deref()), ("a", Some("MIT")));
        assert_eq!(a.features, ["default", "x"]);
        assert_eq!(a.declared, [("b".into(), Kind::Normal), ("b".into(), Kind::Dev)]);
        assert_eq!(a.resolved, [("b 1".into(), Kind::Normal), ("b 1".into(), Kind::Build)]);
    }
}
