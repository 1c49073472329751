//! TLS configurations of the link.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::{CryptoError, Identity};

fn roots(ca_pem: &str) -> Result<RootCertStore, CryptoError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots
            .add(certificate.map_err(|e| CryptoError::bad("CA certificate", e))?)
            .map_err(|e| CryptoError::bad("CA certificate", e))?;
    }
    Ok(roots)
}

fn parts(identity: &Identity) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CryptoError> {
    let chain = CertificateDer::pem_slice_iter(identity.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| CryptoError::bad("certificate", e))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes()).map_err(|e| CryptoError::bad("key", e))?;
    Ok((chain, key))
}

/// A server that asks for a client certificate of this authority but lets clients without one in: enrolment needs that, all else refuses them.
pub fn server(ca_pem: &str, identity: &Identity) -> Result<ServerConfig, CryptoError> {
    let (chain, key) = parts(identity)?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(ca_pem)?))
        .allow_unauthenticated()
        .build()
        .map_err(|e| CryptoError::bad("client verifier", e))?;
    let mut config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|e| CryptoError::bad("TLS server", e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// A client that trusts this authority alone, with a certificate of its own once it has one.
pub fn client(ca_pem: &str, identity: Option<&Identity>) -> Result<ClientConfig, CryptoError> {
    let builder = ClientConfig::builder().with_root_certificates(roots(ca_pem)?);
    let mut config = match identity {
        Some(identity) => {
            let (chain, key) = parts(identity)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| CryptoError::bad("TLS client", e))?
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_ends_are_built_from_one_authority() {
        crate::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let ca = crate::Ca::load_or_create(dir.path()).unwrap();
        super::server(ca.certificate_pem(), &ca.server(&["localhost".into(), "127.0.0.1".into()]).unwrap()).unwrap();
        let (key_pem, csr) = crate::Identity::request().unwrap();
        let (certificate_pem, _) = ca.sign_site(&csr, 1, 1).unwrap();
        super::client(ca.certificate_pem(), Some(&crate::Identity { certificate_pem, key_pem })).unwrap();
        assert!(super::client("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None).is_err());
    }
}
