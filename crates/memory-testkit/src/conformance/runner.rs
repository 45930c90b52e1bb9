//! Runs checks: one at a time over a fresh harness, and all of them for a whole verdict.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::future::Future;

use futures::future::BoxFuture;
use memory_core::Capability;

use super::bench::Bench;
use super::failure::{CheckResult, Failure};
use super::harness::Harness;
use super::list::CHECKS;

/// A part that no capability speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// [`memory_core::traits::StoreMeta`].
    Meta,
    /// [`memory_core::traits::StoreUpkeep`].
    Upkeep,
}

/// One check of the suite.
pub struct Check {
    /// Its name; that of the stamped test.
    pub name: &'static str,
    /// The capabilities that a store must declare for the check to apply. A store that declares
    /// them all must pass it.
    pub needs: &'static [Capability],
    /// The parts that it needs besides.
    pub parts: &'static [Part],
    /// The check.
    pub run: for<'a> fn(&'a Bench) -> BoxFuture<'a, CheckResult>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Check({})", self.name)
    }
}

/// How a check ended.
#[derive(Debug)]
pub enum Verdict {
    /// The store does what the check asks.
    Passed,
    /// The store does not declare what the check is about; this is named.
    NotApplicable(String),
    /// It does not do what it declares.
    Failed(Failure),
}

fn declared(harness: &dyn Harness) -> BTreeSet<Capability> {
    let mut set = harness.records().capabilities().set;
    if let Some(vectors) = harness.vectors() {
        set.extend(vectors.capabilities().set);
    }
    if let Some(keywords) = harness.keywords() {
        set.extend(keywords.capabilities().set);
    }
    set
}

/// The names of the checks that a set of capabilities implies.
#[must_use]
pub fn implied(declared: &BTreeSet<Capability>) -> Vec<&'static str> {
    CHECKS
        .iter()
        .filter(|check| check.needs.iter().all(|need| declared.contains(need)))
        .map(|check| check.name)
        .collect()
}

/// Runs one check over a fresh harness.
pub async fn run_check(check: &Check, harness: Box<dyn Harness>) -> Verdict {
    let declared = declared(&harness);
    if let Some(missing) = check.needs.iter().find(|need| !declared.contains(need)) {
        return Verdict::NotApplicable(format!("{missing} is not declared"));
    }
    for part in check.parts {
        let there = match part {
            Part::Meta => harness.meta().is_some(),
            Part::Upkeep => harness.upkeep().is_some(),
        };
        if !there {
            return Verdict::NotApplicable(format!("there is no {part:?} part"));
        }
    }
    let bench = match Bench::new(harness) {
        Ok(bench) => bench,
        Err(failure) => return Verdict::Failed(failure),
    };
    match (check.run)(&bench).await {
        Ok(()) => Verdict::Passed,
        Err(failure) => Verdict::Failed(failure),
    }
}

/// Holds what was stamped against what a harness declares; the answer is one line to print.
///
/// # Errors
/// A required capability is not declared, a declared one lacks its part, or fewer checks were
/// stamped than the declared ones imply.
pub fn cover(
    harness: &dyn Harness,
    stamped: &[&str],
    required: &[Capability],
) -> CheckResult<String> {
    let declared = declared(harness);
    for capability in required {
        if !declared.contains(capability) {
            return Err(Failure::new(format!("{capability} is required and not declared")));
        }
    }
    for (capability, there) in [
        (Capability::VectorSearch, harness.vectors().is_some() && harness.meta().is_some()),
        (Capability::KeywordSearch, harness.keywords().is_some()),
        (Capability::ChangeLog, harness.changes().is_some()),
        (Capability::TenantDirectory, harness.tenants().is_some()),
        (Capability::Leases, harness.leases().is_some()),
        (Capability::OnlineBackup, harness.upkeep().is_some()),
    ] {
        if declared.contains(&capability) && !there {
            return Err(Failure::new(format!("{capability} is declared and its part is missing")));
        }
    }
    let implied = implied(&declared);
    for name in &implied {
        if !stamped.contains(name) {
            return Err(Failure::new(format!("the check {name} is implied and not stamped")));
        }
    }
    for capability in &declared {
        if !CHECKS.iter().any(|check| check.needs.contains(capability)) {
            return Err(Failure::new(format!("no check is about {capability}")));
        }
    }
    let mut line = format!(
        "conformance of {}: {} checks stamped, {} implied by {} declared capabilities",
        harness.records().capabilities().backend,
        stamped.len(),
        implied.len(),
        declared.len(),
    );
    let skipped: Vec<_> = CHECKS.iter().map(|c| c.name).filter(|n| !implied.contains(n)).collect();
    if !skipped.is_empty() {
        let _ = write!(line, "; NOT APPLICABLE: {}", skipped.join(", "));
    }
    Ok(line)
}

#[expect(clippy::expect_used, reason = "a test without a runtime cannot go on")]
fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
        .block_on(future)
}

/// What a stamped suite is run over: a harness, or an [`Option`] of one where the server that it
/// needs may be away. Whoever gives `None` has said why.
pub trait Offer {
    /// The harness, if there is one.
    fn offered(self) -> Option<Box<dyn Harness>>;
}

impl<H: Harness + 'static> Offer for H {
    fn offered(self) -> Option<Box<dyn Harness>> {
        Some(Box::new(self))
    }
}

impl<H: Harness + 'static> Offer for Option<H> {
    fn offered(self) -> Option<Box<dyn Harness>> {
        self.map(|harness| Box::new(harness) as Box<dyn Harness>)
    }
}

/// Runs one stamped check. Called by [`crate::conformance!`].
///
/// # Panics
/// The check fails, or there is none of the name.
#[expect(clippy::print_stderr, reason = "a check that does not run says so loudly")]
pub fn stamp(name: &str, harness: impl Future<Output = impl Offer>) {
    crate::canary::watch();
    let check = CHECKS.iter().find(|check| check.name == name);
    let check = check.unwrap_or_else(|| panic!("no check is named {name}"));
    let verdict = block_on(async {
        let harness = harness.await.offered()?;
        Some(run_check(check, harness).await)
    });
    match verdict {
        None => eprintln!("conformance: {name} SKIPPED: there is no store to run it on"),
        Some(Verdict::Passed) => {}
        Some(Verdict::NotApplicable(why)) => {
            eprintln!("conformance: {name} NOT APPLICABLE: {why}");
        }
        Some(Verdict::Failed(failure)) => panic!("conformance: {name}: {failure}"),
    }
}

/// Runs the stamped coverage check. Called by [`crate::conformance!`].
///
/// # Panics
/// As [`cover`] fails.
#[expect(clippy::print_stdout, reason = "the number of checks is part of the test's answer")]
pub fn stamp_coverage(
    stamped: &[&str],
    required: &[Capability],
    harness: impl Future<Output = impl Offer>,
) {
    let line = block_on(async {
        let harness = harness.await.offered()?;
        Some(cover(&harness, stamped, required))
    });
    match line {
        None => println!("conformance: coverage SKIPPED: there is no store to run it on"),
        Some(Ok(line)) => println!("{line}"),
        Some(Err(failure)) => panic!("conformance: coverage: {failure}"),
    }
}

/// Stamps the conformance suite onto a store: `conformance!(NAME, FUTURE_OF_A_HARNESS)`, or with
/// `requires = [CAPABILITY, ...]`. See [`mod@crate::conformance`].
#[macro_export]
macro_rules! conformance {
    ($prefix:ident, $harness:expr $(,)?) => {
        $crate::conformance!($prefix, $harness, requires = []);
    };
    ($prefix:ident, $harness:expr, requires = [$($required:ident),* $(,)?] $(,)?) => {
        mod $prefix {
            #[allow(unused_imports, reason = "the harness may be named by a path from the root")]
            use super::*;
            mod conformance {
                #[allow(unused_imports, reason = "as above")]
                use super::*;
                $crate::__for_each_check! { __stamp [$harness] [$($required)*] }
            }
        }
    };
}

/// Stamps the tests of [`conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __stamp {
    ([$harness:expr] [$($required:ident)*] $($group:ident { $($name:ident [$($needs:ident)*] [$($parts:ident)*];)* })*) => {
        $($(
            #[test]
            fn $name() {
                $crate::conformance::stamp(stringify!($name), async { $harness.await });
            }
        )*)*

        #[test]
        fn coverage() {
            $crate::conformance::stamp_coverage(
                &[$($(stringify!($name)),*),*],
                &[$($crate::__core::Capability::$required),*],
                async { $harness.await },
            );
        }
    };
}
