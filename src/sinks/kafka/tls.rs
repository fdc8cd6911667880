//! Whom we trust when a broker is spoken to by TLS.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

/// TLS 1.2 and 1.3 with the system's certificates, or with those of a file instead.
///
/// # Errors
/// What is wrong, beginning with the field.
pub(super) fn trusting(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut store = RootCertStore::empty();
    match ca_file {
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let wrong = |e: String| format!("kafka.ca_file: {}: {e}", path.display());
            let certs = CertificateDer::pem_file_iter(path).map_err(|e| wrong(e.to_string()))?;
            for cert in certs {
                let cert = cert.map_err(|e| wrong(e.to_string()))?;
                store.add(cert).map_err(|e| wrong(e.to_string()))?;
            }
        }
    }
    if store.is_empty() {
        return Err(
            "url: no certificate is trusted here; install the system's (ca-certificates) or \
                    give a `kafka.ca_file`"
                .into(),
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("url: no TLS: {e}"))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
