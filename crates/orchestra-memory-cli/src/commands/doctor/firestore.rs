//! What `doctor` checks of Cloud Firestore before the store is opened: the settings, and whether
//! there are credentials. No token is fetched; whether the service takes them shows in `health`.

use orchestra_memory::{StoreUrl, firestore};

use super::Check;
use crate::app::Places;
use crate::human;

/// The settings of the store, and its credentials.
pub(super) async fn examine(places: &Places, checks: &mut Vec<Check>) {
    let read =
        StoreUrl::parse(&places.url).and_then(|url| firestore::settings(&url, &places.settings));
    let settings = match read {
        Ok(settings) => settings,
        Err(error) => return checks.push(Check::failed("firestore", &error.into())),
    };
    let mut detail = format!("project {}, database {}", settings.project, settings.database);
    if !settings.prefix.is_empty() {
        detail.push_str(&format!(", prefix {}", settings.prefix));
    }
    if settings.change_log {
        detail.push_str(", with a change log");
    }
    if let Some(address) = &settings.emulator {
        detail.push_str(&format!("; the emulator at {address} is asked, not the service"));
    }
    checks.push(Check::ok("firestore", human::one_line(&detail)));
    checks.push(match firestore::credentials_place(&settings, &places.settings).await {
        Ok(place) => Check::ok("credentials", place),
        Err(error) => Check::failed("credentials", &error.into()),
    });
}
