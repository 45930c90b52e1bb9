//! The metadata server: which it is, and whether it is there.

use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};
use reqwest::StatusCode;

use crate::environment::{Environment, set};
use crate::live::Owned;
use crate::settings::GoogleAuthSettings;
use crate::{BACKEND, shown};

/// The variable that names the host of the metadata server, for Google's libraries too.
const HOST_VARIABLE: &str = "GCE_METADATA_HOST";
/// The name under which every environment of Google has it.
const HOST: &str = "metadata.google.internal";
/// The address of the default service account's name. It is there if tokens are.
const ACCOUNT: &str = "/computeMetadata/v1/instance/service-accounts/default/email";
/// The header that asks for metadata, and by which the answer is told from that of another server.
const FLAVOR: (&str, &str) = ("metadata-flavor", "Google");

/// The host that is to be asked.
///
/// # Errors
/// `Config`: the variable holds no host, or another than the settings: the library heeds the
/// variable alone.
pub(crate) fn host(settings: &GoogleAuthSettings, environment: &dyn Environment) -> Result<String> {
    let wrong = |message: &str| {
        Error::new(ErrorKind::Config, message).with_backend(BACKEND).with_operation("open")
    };
    let variable = match set(environment, HOST_VARIABLE) {
        None => None,
        Some(value) => match value.to_str() {
            Some(host) if shown::is_host(host) => Some(host.to_owned()),
            _ => return Err(wrong("GCE_METADATA_HOST is HOST or HOST:PORT; unset or correct it")),
        },
    };
    match (&settings.metadata_host, variable) {
        (Some(ours), Some(theirs)) if *ours != theirs => Err(wrong(
            "`metadata_host` and GCE_METADATA_HOST name different hosts; unset one of them",
        )),
        (Some(host), _) => Ok(host.clone()),
        (None, Some(host)) => Ok(host),
        (None, None) => Ok(HOST.to_owned()),
    }
}

/// Asks the server for the name of its default service account, for `bound` at most.
///
/// # Errors
/// Why it does not serve.
pub(crate) async fn probe(
    client: reqwest::Client,
    host: &str,
    bound: Duration,
) -> Result<(), String> {
    let request = client.get(format!("http://{host}{ACCOUNT}")).header(FLAVOR.0, FLAVOR.1);
    // A runtime of its own: the caller need not have one, and the look-up of a name, which cannot
    // be stopped, does not hold up the caller's.
    let runtime = Owned::new().map_err(|()| "no thread can be had to ask it".to_owned())?;
    let task = runtime.spawn(async move { tokio::time::timeout(bound, request.send()).await });
    match task.await {
        Ok(Ok(Ok(answer))) => judge(&answer),
        Ok(Ok(Err(_))) => Err("it cannot be reached".to_owned()),
        Ok(Err(_)) => Err(format!("it did not answer within {} ms", bound.as_millis())),
        Err(_) => Err("it could not be asked".to_owned()),
    }
}

fn judge(answer: &reqwest::Response) -> Result<(), String> {
    let flavor = answer.headers().get(FLAVOR.0);
    if flavor.is_none_or(|flavor| flavor.as_bytes() != FLAVOR.1.as_bytes()) {
        return Err("what answers there is not a metadata server".to_owned());
    }
    match answer.status() {
        status if status.is_success() => Ok(()),
        StatusCode::NOT_FOUND => Err("the machine has no service account".to_owned()),
        status => Err(format!("it answered with HTTP {}", status.as_u16())),
    }
}
