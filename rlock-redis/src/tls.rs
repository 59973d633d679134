//! TLS by rustls, with the certificates that the configuration names.

use std::path::Path;
use std::sync::Arc;

use fred::rustls::crypto::ring;
use fred::rustls::pki_types::pem::PemObject;
use fred::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use fred::rustls::{ClientConfig, RootCertStore};
use fred::types::config::TlsConnector;
use rlock_core::{Cause, TlsFiles};

use crate::error::CallError;

/// The TLS connector for fred. fred's own default panics if a program contains two crypto providers.
pub(crate) fn connector(tls: &TlsFiles) -> Result<TlsConnector, CallError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| CallError::Unsent(Cause::new("TLS cannot be set up").caused_by(error)))?
        .with_root_certificates(roots(tls)?);
    let config = match tls.identity() {
        None => config.with_no_client_auth(),
        Some((cert, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, "private key", &error))?;
            config.with_client_auth_cert(certificates(cert)?, private).map_err(|error| {
                let (cert, key) = (cert.display(), key.display());
                CallError::Unfit(format!("the certificate in {cert} and the key in {key} do not match: {error}"))
            })?
        }
    };
    Ok(config.into())
}

fn roots(tls: &TlsFiles) -> Result<RootCertStore, CallError> {
    let mut roots = RootCertStore::empty();
    let found = match tls.ca() {
        Some(file) => certificates(file)?,
        None => fred::rustls_native_certs::load_native_certs().certs,
    };
    let (added, _unreadable) = roots.add_parsable_certificates(found);
    if added > 0 {
        return Ok(roots);
    }
    Err(match tls.ca() {
        Some(file) => CallError::Unfit(format!("no certificate in the file {} can be used", file.display())),
        None => CallError::Unsent(Cause::new(
            "this system has no certificates to check the server's with: install ca-certificates, or name a file by ca=FILE",
        )),
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CallError> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unreadable(file, "certificate", &error))?;
    if certificates.is_empty() {
        return Err(CallError::Unfit(format!("the file {} contains no certificate in PEM", file.display())));
    }
    Ok(certificates)
}

fn unreadable(file: &Path, what: &str, error: &dyn std::fmt::Display) -> CallError {
    CallError::Unfit(format!("the file {} cannot be read as a {what} in PEM: {error}", file.display()))
}
