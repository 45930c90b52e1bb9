//! Cloud Firestore: how it is opened from a URL, and its index definitions. The only file that names
//! its types.
//!
//! `firestore://PROJECT`, `firestore://PROJECT/DATABASE`, each with the options `prefix=P`,
//! `emulator=HOST:PORT` and `change_log=true`. What the URL leaves out stands in the section
//! `[firestore]` of the settings; credentials are those that the section `[google]` says, and with
//! an emulator none are looked for.
//!
//! The library looks at no variable for an emulator: `FIRESTORE_EMULATOR_HOST` is read by the program
//! alone, which puts it into `emulator` of the section.
//!
//! The store's connections live in the tokio runtime that it is opened in, and its calls are made
//! within that runtime; opened outside of one, it is `Config`.

use std::sync::Arc;

use async_trait::async_trait;
use memory_core::traits::{ChangeLog, CredentialProvider};
use memory_core::{Clock, Error, ErrorKind, Result, SystemClock};

use crate::backend::Backend;
use crate::ledger::UsageLedger;
use crate::registry::{BackendFactory, OpenRequest};
use crate::settings::Settings;
use crate::url::StoreUrl;

pub use memory_firestore::{
    BulkSettings, FilterKeyType, FirestoreSettings, FirestoreStore, GuardMode, IndexDefinitions,
    OpenMode, Ramp, VectorScope,
};
pub use memory_google_auth::{CredentialChoice, GoogleAuthSettings};

/// The scheme of its URLs.
pub const SCHEME: &str = "firestore";

/// The options of its URLs.
const OPTIONS: [&str; 3] = ["prefix", "emulator", "change_log"];

/// `firestore://PROJECT/DATABASE`.
#[derive(Debug)]
pub(crate) struct FirestoreFactory;

#[async_trait]
impl BackendFactory for FirestoreFactory {
    async fn open(&self, request: &OpenRequest) -> Result<Backend> {
        let mut settings = settings(&request.url, &request.settings)?;
        ready(&settings)?;
        let changes = settings.change_log;
        let credentials =
            credentials(&mut settings, &request.settings.google, request.clock.clone()).await?;
        let (clock, ledger) = (request.clock.clone(), request.ledger.clone());
        let store = FirestoreStore::open(settings, credentials, clock, ledger).await?;
        let log: Arc<dyn ChangeLog> = store.clone();
        Ok(Backend {
            changes: changes.then_some(log),
            bulk: Some(store.clone()),
            ..Backend::without_keywords(store)
        })
    }
}

/// Gives the memories of a store that has some the filter keys of the settings, where a key was
/// declared since they were written. Answers how many were rewritten; a second call rewrites none.
/// Every memory is read and billed. To be called when every other process has ended.
///
/// # Errors
/// `Config`: no project, no tokio runtime, or a key declared with another type. Otherwise what the
/// store met; the call may be repeated and goes on.
///
/// # Cancellation
/// What was rewritten stays so; another call goes on.
pub async fn declare_filter_keys(mut settings: FirestoreSettings, all: &Settings) -> Result<u64> {
    settings.open = OpenMode::Lazy;
    ready(&settings)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let credentials = credentials(&mut settings, &all.google, clock.clone()).await?;
    let book = UsageLedger::new().with_cost(all.cost.clone(), clock.clone());
    let store = FirestoreStore::open(settings, credentials, clock, Arc::new(book)).await?;
    store.declare_filter_keys().await
}

/// Where tokens come from, and with them the project that is billed unless the settings name one.
/// Nothing is looked for where an emulator is asked.
async fn credentials(
    settings: &mut FirestoreSettings,
    google: &GoogleAuthSettings,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn CredentialProvider>> {
    if settings.emulator.is_some() {
        return Ok(Arc::new(memory_google_auth::EmulatorCredentials::new()));
    }
    let environment = memory_google_auth::ProcessEnvironment;
    let located = memory_google_auth::locate(google, &environment, clock).await?;
    if settings.quota_project.is_none() {
        settings.quota_project = located.quota_project;
    }
    Ok(located.provider)
}

/// Whether there is what opening a store takes.
fn ready(settings: &FirestoreSettings) -> Result<()> {
    if settings.project.is_empty() {
        return Err(config("`firestore:` needs a project: `firestore://PROJECT`"));
    }
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(config(
            "a `firestore:` store is opened and called within a tokio runtime, and there is none \
             here",
        ));
    }
    Ok(())
}

/// Where credentials are found, in words; no token is fetched.
///
/// # Errors
/// `Config`: there are none, or what is set cannot be used; the message says what was tried.
pub async fn credentials_place(settings: &FirestoreSettings, all: &Settings) -> Result<String> {
    if settings.emulator.is_some() {
        return Ok("none are needed for an emulator".to_owned());
    }
    let environment = memory_google_auth::ProcessEnvironment;
    let clock = Arc::new(SystemClock::new());
    let located = memory_google_auth::locate(&all.google, &environment, clock).await?;
    Ok(located.place.to_string())
}

/// The settings of the store that a URL and the settings stand for. The project may be missing.
///
/// Project, database and prefix may stand in the URL or in the section `[firestore]`, or in both if
/// they agree; `emulator` and `change_log` of the URL take the place of those of the section. A URL
/// of another scheme says nothing.
///
/// # Errors
/// `Config`: the URL is malformed, an option is unknown, the two contradict each other, or a value
/// is out of its range.
pub fn settings(url: &StoreUrl, settings: &Settings) -> Result<FirestoreSettings> {
    let mut found = settings.firestore.clone();
    if url.scheme() == SCHEME {
        url.check_options(&OPTIONS)?;
        let (project, database) = place(url.rest())?;
        agree("project", project, &mut found.project, "")?;
        agree("database", database, &mut found.database, "(default)")?;
        agree("prefix", url.option("prefix"), &mut found.prefix, "")?;
        if let Some(address) = url.option("emulator") {
            found.emulator = Some(address.to_owned());
        }
        match url.option("change_log") {
            None => {}
            Some("true") => found.change_log = true,
            Some("false") => found.change_log = false,
            Some(_) => {
                return Err(config("the option `change_log` of `firestore:` is true or false"));
            }
        }
    }
    let faults = faults(&found);
    if faults.is_empty() { Ok(found) } else { Err(config(&faults.join("; "))) }
}

/// All that is wrong with the section of the settings.
pub(crate) fn faults(settings: &FirestoreSettings) -> Vec<String> {
    let mut faults = settings.faults();
    if settings.emulator.as_ref().is_some_and(|address| !is_address(address)) {
        faults.push("emulator is the address HOST:PORT, as in `localhost:8080`".to_owned());
    }
    faults
}

/// Project and database of `//PROJECT/DATABASE`; what is empty is not there.
fn place(rest: &str) -> Result<(Option<&str>, Option<&str>)> {
    let path = match rest.strip_prefix("//") {
        Some(path) => path,
        None if rest.is_empty() => "",
        None => {
            return Err(config("after `firestore:` stands `//PROJECT` or `//PROJECT/DATABASE`"));
        }
    };
    let (project, database) = path.split_once('/').unwrap_or((path, ""));
    if database.contains('/') {
        return Err(config("a Firestore database has no `/`: `firestore://PROJECT/DATABASE`"));
    }
    if project.is_empty() && !database.is_empty() {
        return Err(config(
            "before the database stands its project: `firestore://PROJECT/DATABASE`",
        ));
    }
    let given = |part: &'_ str| !part.is_empty();
    Ok((Some(project).filter(|part| given(part)), Some(database).filter(|part| given(part))))
}

/// Takes what the URL says, unless the section says something else.
fn agree(name: &str, url: Option<&str>, section: &mut String, unset: &str) -> Result<()> {
    let Some(url) = url else { return Ok(()) };
    if section != unset && section != url {
        return Err(config(&format!(
            "the {name} stands in the store's URL and in the section [firestore], and the two \
             differ: leave one out"
        )));
    }
    url.clone_into(section);
    Ok(())
}

/// Whether a text is `HOST:PORT`; a host that is a number of version 6 stands in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_one = match bracketed {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(letter)
        }
    };
    host_is_one && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn config(message: &str) -> Error {
    Error::new(ErrorKind::Config, message).with_operation("open")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, toml: &str) -> Result<FirestoreSettings> {
        settings(&StoreUrl::parse(url)?, &Settings::from_toml_str(toml)?)
    }

    #[test]
    fn urls_are_read_and_the_section_fills_in() {
        let all = "firestore://p-1/d-1?prefix=x_&emulator=127.0.0.1:8080&change_log=true";
        let found = read(all, "").unwrap();
        assert_eq!((found.project.as_str(), found.database.as_str()), ("p-1", "d-1"));
        assert_eq!((found.prefix.as_str(), found.change_log), ("x_", true));
        assert_eq!(found.emulator.as_deref(), Some("127.0.0.1:8080"));
        for url in ["firestore://p", "firestore://p/", "firestore://p/(default)"] {
            let found = read(url, "").unwrap();
            assert_eq!((found.project.as_str(), found.database.as_str()), ("p", "(default)"));
            assert!(found.prefix.is_empty() && found.emulator.is_none() && !found.change_log);
        }
        let section = "[firestore]\nproject = 'p'\ndatabase = 'd'\nprefix = 'x'\nchannels = 2\n\
                       change_log = true\nemulator = 'localhost:1'\n[firestore.bulk]\n\
                       concurrency = 7\n[google]\ncredentials = 'metadata'\n";
        for url in ["firestore:", "firestore://", "firestore://p/d?prefix=x"] {
            let found = read(url, section).unwrap();
            assert_eq!((found.project.as_str(), found.database.as_str()), ("p", "d"), "{url}");
            assert_eq!(
                (found.prefix.as_str(), found.channels, found.bulk.concurrency),
                ("x", 2, 7)
            );
            assert_eq!(found.emulator.as_deref(), Some("localhost:1"));
        }
        let found = read("firestore:?emulator=[::1]:9&change_log=false", section).unwrap();
        assert_eq!((found.emulator.as_deref(), found.change_log), (Some("[::1]:9"), false));
        assert_eq!(read("sqlite:m.db?mode=ro", section).unwrap().project, "p", "another store's");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let section = "[firestore]\nproject = 'p'\ndatabase = 'd'\nprefix = 'x'\n";
        for (url, toml, part) in [
            ("firestore:p", "", "//PROJECT"),
            ("firestore://p/d/e", "", "no `/`"),
            ("firestore:///d", "", "before the database"),
            ("firestore://p q", "", "project has"),
            ("firestore://p/d_e", "", "database is"),
            ("firestore://p?prefix=a/b", "", "prefix has"),
            ("firestore://p?emulater=x:1", "", "did you mean `emulator`?"),
            ("firestore://p?emulator=x", "", "HOST:PORT"),
            ("firestore://p?emulator=http://x:1", "", "HOST:PORT"),
            ("firestore://p?emulator=x:0", "", "HOST:PORT"),
            ("firestore://p?change_log=yes", "", "true or false"),
            ("firestore://q", section, "the project stands"),
            ("firestore://p/e", section, "the database stands"),
            ("firestore://p?prefix=y", section, "the prefix stands"),
        ] {
            let error = read(url, toml).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(error.message().contains(part), "{url}: {error}");
        }
        for (toml, part) in [
            ("[firestore]\nprojekt = 'p'", "did you mean `project`?"),
            ("[firestore]\nchannels = 0", "firestore.channels"),
            ("[firestore]\nemulator = 'x'", "HOST:PORT"),
            ("[firestore.bulk]\nconcurency = 1", "did you mean `concurrency`?"),
            ("[google]\nkeyfile = 'x'", "did you mean `key_file`?"),
            ("[google]\ncredentials = 'key_file'", "google: credentials"),
        ] {
            let error = Settings::from_toml_str(toml).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{toml}");
            assert!(error.to_string().contains(part), "{toml}: {error}");
        }
    }
}
