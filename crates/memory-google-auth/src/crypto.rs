//! The provider of cryptography, and whether TLS can be had at all.

use memory_core::{Error, ErrorKind, Result};
use rustls::crypto::CryptoProvider;

use crate::BACKEND;

/// Installs `ring` as the provider of cryptography of every rustls in this process, unless one is
/// installed already. It may be called any number of times, from any thread.
///
/// `google-cloud-auth` is built without a provider, and signs and connects with the one of the
/// process. [`find`](crate::find) calls this before it needs one. A program that wants another
/// provider installs it first, with `rustls::crypto::CryptoProvider::install_default`.
pub fn install_crypto() {
    if CryptoProvider::get_default().is_none() {
        // It fails if another thread was faster, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// A client as the library makes one for each request. Where none can be made, the library panics;
/// so this is tried at open.
///
/// # Errors
/// `Config`: the system has no certificates.
pub(crate) fn http_client() -> Result<reqwest::Client> {
    install_crypto();
    // The cause names certificates and files only, but it is not needed: there is one way to fail.
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().map_err(|_| {
        Error::new(
            ErrorKind::Config,
            "TLS cannot be set up: this system has no certificates of authorities. Install them \
             (the package is ca-certificates on most systems), or name their file in SSL_CERT_FILE",
        )
        .with_backend(BACKEND)
        .with_operation("open")
    })
}
