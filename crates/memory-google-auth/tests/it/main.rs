//! Tests of the credentials against stubs of Google's servers on loopback.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod caching;
mod documents;
mod finding;
mod flows;
mod metadata;
mod service_account;
mod settings;
mod stub;
mod support;
mod tls;
