//! TLS configurations of the link.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};

use crate::{CryptoError, Identity, token};

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

/// SHA-256 of the first certificate of a PEM file, in hex.
pub fn fingerprint(pem: &str) -> Result<String, CryptoError> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| CryptoError::bad("certificate", e))?;
    Ok(token::digest(&certificate))
}

/// For a client that knows the authority by its fingerprint alone: the server must send the authority's certificate along, and be
/// signed by it for the name that was dialled.
pub fn pinned(authority: &str) -> Result<ClientConfig, CryptoError> {
    let provider = rustls::crypto::CryptoProvider::get_default()
        .ok_or_else(|| CryptoError::Bad("no TLS provider is installed".into()))?;
    let verifier = Pinned { authority: authority.to_ascii_lowercase(), provider: provider.clone() };
    let mut config =
        ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Pinned {
    authority: String,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let unknown =
            || rustls::Error::General("the other end is not the Global Controller that this token is for".into());
        let authority =
            intermediates.iter().find(|c| token::equal(&token::digest(c), &self.authority)).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|_| unknown())?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn both_ends_are_built_from_one_authority() {
        crate::install_provider();
        let dir = tempfile::tempdir().unwrap();
        let ca = crate::Ca::load_or_create(dir.path()).unwrap();
        let (key_pem, csr) = crate::Identity::request().unwrap();
        let (certificate_pem, _) = ca.sign_site(&csr, 1, 1).unwrap();
        super::client(ca.certificate_pem(), Some(&crate::Identity { certificate_pem, key_pem })).unwrap();
        assert!(super::client("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None).is_err());
    }
}
