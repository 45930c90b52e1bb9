//! `doctor`: whether all is well, check by check, and what to do where it is not.

#[cfg(feature = "firestore")]
mod firestore;
mod vectors;

use orchestra_memory::{Admin, Error, ErrorKind, Health, HealthStatus, Memory};
use serde::Serialize;
use serde_json::json;

use super::usage;
use crate::app::{self, App, Places, Wants};
use crate::args::Doctor;
use crate::failure::{Failure, Result};
use crate::human;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Warning,
    Failed,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    status: Status,
    /// What was found.
    detail: String,
    /// What to do; where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
    #[serde(skip)]
    kind: Option<ErrorKind>,
    /// Whether it is worth asking again, where it failed.
    #[serde(skip)]
    retryable: bool,
}

impl Check {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { check, status: Status::Ok, detail, advice: None, kind: None, retryable: false }
    }

    fn warning(check: &'static str, detail: impl Into<String>, advice: &str) -> Self {
        let advice = Some(advice.to_owned());
        let detail = detail.into();
        Self { check, status: Status::Warning, detail, advice, kind: None, retryable: false }
    }

    fn failed(check: &'static str, failure: &Failure) -> Self {
        let (kind, retryable) = match failure {
            Failure::Error(error) => (error.kind(), error.is_retryable()),
            _ => (ErrorKind::Unexpected, false),
        };
        let detail = failure.to_text().lines().next().unwrap_or_default().to_owned();
        let advice = Some(advice(kind).to_owned());
        Self { check, status: Status::Failed, detail, advice, kind: Some(kind), retryable }
    }

    fn fault(check: &'static str, kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self::failed(check, &Error::new(kind, detail).into())
    }

    /// Whether the store was asked, and not a model.
    fn about_the_store(&self) -> bool {
        let names =
            ["store", "schema", "analyser", "health", "verify", "tenant", "vectors", "close"];
        names.contains(&self.check)
    }

    fn with_advice(mut self, advice: &str) -> Self {
        self.advice = Some(advice.to_owned());
        self
    }
}

/// What to do about a kind of fault.
fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "check --store; `add` or `import` makes a new store",
        ErrorKind::PermissionDenied => {
            "check owner and mode of the file and its folder, or open it with sqlite:PATH?mode=ro"
        }
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded => {
            "see whether another process holds the store, whether the disk is full, and try again"
        }
        ErrorKind::Corrupt => {
            "keep a copy of the file with its -wal and -shm; restore a backup, or export what can \
             still be read and import it into a new store"
        }
        ErrorKind::Unsupported => {
            "use the version of the program that made the store, or a newer one"
        }
        ErrorKind::Config => "correct the settings; the message names the key",
        ErrorKind::InvalidInput => "correct the value; the message names the rule",
        _ => "this should not happen: keep the message",
    }
}

/// As [`advice`], for a store on Redis.
fn redis_advice(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::PermissionDenied => {
            "check user and password of the URL, and what the user may do: `ACL WHOAMI`, `ACL GETUSER`"
        }
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded => {
            "see whether the server can be reached from here and has memory left (`INFO memory`), and \
             try again"
        }
        ErrorKind::Config => "correct the setting, of the program or of the server, that is named",
        ErrorKind::Unsupported => {
            "use Redis 7 or newer, and for searches one with the query engine (Redis 8, or the module \
             search)"
        }
        ErrorKind::Corrupt => {
            "the key was not written by this program: put right or remove what the message names"
        }
        _ => return None,
    })
}

/// As [`advice`], for a store on Cloud Firestore.
fn firestore_advice(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::NotFound => {
            "check the project and the database in --store; `gcloud firestore databases list` shows \
             what there is"
        }
        ErrorKind::PermissionDenied => {
            "give the account the role roles/datastore.user, or name other credentials in the \
             section [google] of the settings"
        }
        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded => {
            "see whether the service, or the emulator that is named, can be reached from here, and \
             try again"
        }
        ErrorKind::RateLimited => {
            "look at the project's quotas, and at the budgets in the section [cost] of the settings"
        }
        ErrorKind::Corrupt => {
            "the document was not written by this program: put right or remove what the message \
             names"
        }
        _ => return None,
    })
}

/// Which fault decides the exit code: the one that threatens most.
fn gravity(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Corrupt => 6,
        ErrorKind::Unexpected => 5,
        ErrorKind::Unsupported => 4,
        ErrorKind::PermissionDenied => 3,
        ErrorKind::Config | ErrorKind::InvalidInput => 2,
        _ => 1,
    }
}

/// `doctor`.
pub(crate) async fn run(app: &mut App, args: &Doctor) -> Result<()> {
    let checks = examine(app, args).await;
    let failed = checks.iter().filter(|check| check.status == Status::Failed).count();
    let warnings = checks.iter().filter(|check| check.status == Status::Warning).count();
    let style = app.output.style();
    let width = checks.iter().map(|check| check.check.len()).max().unwrap_or(0);
    for check in &checks {
        if app.output.is_json() {
            app.output.json(check)?;
            continue;
        }
        let status = match check.status {
            Status::Ok => style.green("ok  "),
            Status::Warning => style.bold("warn"),
            Status::Failed => style.red("FAIL"),
        };
        let name = human::pad(check.check, width);
        app.output.line(format!("{status}  {name}  {}", human::one_line(&check.detail)))?;
        if let Some(advice) = &check.advice {
            let indent = " ".repeat(width + 8);
            for line in human::wrapped(advice, &indent, style.width) {
                app.output.line(line)?;
            }
        }
    }
    if app.output.is_json() {
        app.output.json(&json!({ "doctor": {
            "checks": checks.len(), "warnings": warnings, "failed": failed,
        } }))?;
    }
    match decisive(&checks) {
        None => Ok(()),
        Some((kind, retryable)) => {
            let message = format!("{failed} of {} checks failed", checks.len());
            Err(Error::new(kind, message).with_retryable(retryable).into())
        }
    }
}

/// The kind of the gravest fault, and whether it is worth asking again. Of those that are as grave,
/// one that does not pass by itself decides.
fn decisive(checks: &[Check]) -> Option<(ErrorKind, bool)> {
    let faults = checks.iter().filter_map(|check| Some((check.kind?, check.retryable)));
    faults.max_by_key(|(kind, retryable)| (gravity(*kind), !retryable))
}

async fn examine(app: &App, args: &Doctor) -> Vec<Check> {
    let places = match app.places() {
        Ok(places) => places,
        Err(failure) => return settings_checks(&failure),
    };
    let mut checks = look(app, &places, args).await;
    let advice: fn(ErrorKind) -> Option<&'static str> = match &places.url {
        url if app::is_firestore(url) => firestore_advice,
        url if app::is_redis(url) => redis_advice,
        _ => return checks,
    };
    for check in checks.iter_mut().filter(|check| check.about_the_store()) {
        if let Some(advice) = check.kind.and_then(advice) {
            check.advice = Some(advice.to_owned());
        }
    }
    checks
}

/// One check for each line of what is wrong with the settings.
fn settings_checks(failure: &Failure) -> Vec<Check> {
    let first = Check::failed("settings", failure);
    let Failure::Error(error) = failure else { return vec![first] };
    let mut faults = error.message().lines().skip(1).peekable();
    if faults.peek().is_none() {
        return vec![first];
    }
    let mut checks: Vec<Check> =
        faults.map(|fault| Check::fault("settings", error.kind(), fault)).collect();
    // Where they stand, once for all.
    if let Some(last) = checks.last_mut() {
        for (key, value) in error.context() {
            last.detail.push_str(&format!(" ({key}: {value})"));
        }
    }
    checks
}

async fn look(app: &App, places: &Places, args: &Doctor) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut detail = match &places.config {
        Some(path) => format!("read from {}", path.display()),
        None => "no file: the defaults".to_owned(),
    };
    let variables = places.variables();
    if !variables.is_empty() {
        detail.push_str(&format!(", and {} in the environment", variables.join(", ")));
    }
    checks.push(Check::ok("settings", detail));
    #[cfg(feature = "firestore")]
    if app::is_firestore(&places.url) {
        let before = checks.len();
        firestore::examine(places, &mut checks).await;
        // Nothing is to be looked for where nothing says what to look for.
        if checks[before..].iter().any(|check| check.status == Status::Failed) {
            return checks;
        }
    }
    let model = vectors::model(app, places);
    let model_failed = model.as_ref().is_some_and(|check| check.status == Status::Failed);
    checks.extend(model);
    let open = async |embedder| app.open(places, Wants { create: false, embedder }).await;
    let (memory, unopened) = match open(true).await {
        Ok(memory) => (Ok(memory), None),
        // The store may be sound all the same.
        Err(failure) => match open(false).await {
            Ok(memory) => (Ok(memory), Some(failure)),
            Err(failure) => (Err(failure), None),
        },
    };
    let memory = match memory {
        Ok(memory) => memory,
        Err(failure) => {
            let mut check = Check::failed("store", &failure);
            check.detail = format!("{}: {}", app::shown(&places.url), check.detail);
            checks.push(check);
            return checks;
        }
    };
    checks.push(Check::ok("store", format!("{} opens", app::shown(&places.url))));
    match unopened {
        None => checks.push(vectors::embedder(&memory, places).await),
        // The model's files have had their say.
        Some(_) if model_failed => {}
        Some(failure) => checks.push(vectors::unopened(&failure)),
    }
    look_inside(&memory, places, args, &mut checks).await;
    usage::tell(app, &memory);
    if let Err(error) = memory.close().await {
        checks.push(Check::failed("close", &error.into()));
    }
    checks
}

async fn look_inside(memory: &Memory, places: &Places, args: &Doctor, checks: &mut Vec<Check>) {
    let admin = memory.admin();
    checks.push(match admin.schema().await {
        Ok(schema) if schema.stored == schema.current => {
            Check::ok("schema", format!("version {}", schema.stored))
        }
        Ok(schema) => Check::warning(
            "schema",
            format!("version {}, this program writes {}", schema.stored, schema.current),
            "open the store for writing once",
        ),
        Err(error) => Check::failed("schema", &error.into()),
    });
    checks.push(match admin.analyser().await {
        Ok(Some(analyser)) => Check::ok("analyser", analyser),
        Ok(None) if memory.has_keyword_index() => Check::ok("analyser", "no keyword index yet"),
        Ok(None) => {
            Check::ok("analyser", "this store has no keyword index: search is by meaning alone")
        }
        Err(error) => Check::failed("analyser", &error.into()),
    });
    let health = memory.health().await;
    let reasons = health.reasons.join("; ");
    checks.push(match health.status {
        HealthStatus::Healthy => Check::ok("health", healthy(&health)),
        HealthStatus::Degraded => {
            Check::warning("health", format!("degraded: {reasons}"), advice(ErrorKind::Unavailable))
        }
        HealthStatus::Unhealthy => {
            Check::fault("health", ErrorKind::Unavailable, format!("unhealthy: {reasons}"))
        }
    });
    if app::is_firestore(&places.url) && !args.verify {
        let detail = "left out: it would read, and be billed for, every memory of the store; \
                      --verify does it";
        checks.push(Check::ok("verify", detail));
    } else {
        verify(&admin, checks).await;
    }
    let tenant = match memory.tenant(&places.tenant) {
        Ok(tenant) => tenant,
        Err(error) => return checks.push(Check::failed("tenant", &error.into())),
    };
    let stats = tenant.stats().await;
    checks.push(match &stats {
        Ok(stats) => Check::ok(
            "tenant",
            format!(
                "{}: {}, {} with a vector",
                places.tenant,
                human::count(stats.items, "memory", "memories"),
                human::grouped(stats.embedded)
            ),
        ),
        Err(error) => {
            let retryable = error.is_retryable();
            Check { retryable, ..Check::fault("tenant", error.kind(), error.message()) }
        }
    });
    vectors::tenant(memory, places, &tenant, stats.as_ref().ok(), checks).await;
}

/// That it is healthy, and how busy, where a limit measures that.
fn healthy(health: &Health) -> String {
    let of = |name: &str| {
        health.details.iter().find(|(key, _)| key.ends_with(name)).map(|(_, value)| value)
    };
    match (of("concurrency.saturation"), of("concurrency.limit")) {
        (Some(share), Some(limit)) => {
            format!("healthy; {share} of {limit} permits for calls at once in use")
        }
        _ => "healthy".to_owned(),
    }
}

/// Whether what is stored is whole and agrees with itself.
async fn verify(admin: &Admin, checks: &mut Vec<Check>) {
    match admin.verify().await {
        Ok(report) => {
            for line in report.checks {
                checks.push(Check::ok("verify", line));
            }
            for line in report.faults {
                checks.push(Check::fault("verify", ErrorKind::Corrupt, line));
            }
        }
        Err(error) => checks.push(Check::failed("verify", &error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_fault_decides_and_every_kind_has_advice() {
        assert!(gravity(ErrorKind::Corrupt) > gravity(ErrorKind::PermissionDenied));
        assert!(gravity(ErrorKind::Unsupported) > gravity(ErrorKind::Unavailable));
        for kind in ErrorKind::ALL {
            assert!(!advice(kind).is_empty() && gravity(kind) > 0, "{kind}");
        }
        let check = Check::fault("x", ErrorKind::Corrupt, "bad page");
        assert_eq!((check.status, check.detail.as_str()), (Status::Failed, "bad page"));
        let spent = Error::new(ErrorKind::RateLimited, "spent").with_retryable(false);
        let mut checks = vec![
            Check::failed("tenant", &spent.into()),
            Check::fault("health", ErrorKind::Unavailable, "no answer"),
            Check::warning("missing", "3", "embed"),
        ];
        assert_eq!(decisive(&checks), Some((ErrorKind::RateLimited, false)));
        assert_eq!(decisive(&checks[1..]), Some((ErrorKind::Unavailable, true)));
        assert_eq!(decisive(&checks[2..]), None);
        checks.push(check);
        assert_eq!(decisive(&checks), Some((ErrorKind::Corrupt, false)));
    }
}
