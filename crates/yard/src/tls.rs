//! Self-signed certificates, made at the first connection so that thousands of devices start at once.

use std::{
    net::Ipv4Addr,
    sync::{Arc, OnceLock},
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde::{Deserialize, Serialize};

use crate::YardError;

/// Certificate and key of a device, kept over a restart because clients pin them.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// Certificate, DER in hex.
    pub certificate: String,
    /// Private key, PKCS#8 in hex.
    key: String,
}

impl Identity {
    /// Makes a new one for a device of this name and address.
    pub fn generate(name: &str, address: Ipv4Addr) -> Result<Self, YardError> {
        let fail = |error: rcgen::Error| YardError::Tls(format!("certificate of {name}: {error}"));
        let key = rcgen::KeyPair::generate().map_err(fail)?;
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned(), address.to_string()]).map_err(fail)?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).map_err(fail)?;
        Ok(Self { certificate: hex::encode(certificate.der()), key: hex::encode(key.serialize_der()) })
    }

    /// TLS settings that show this certificate.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, YardError> {
        static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
        let provider = PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone();
        let fail = |error: &dyn std::fmt::Display| YardError::Tls(error.to_string());
        let certificate = CertificateDer::from(hex::decode(&self.certificate).map_err(|e| fail(&e))?);
        let key = PrivatePkcs8KeyDer::from(hex::decode(&self.key).map_err(|e| fail(&e))?);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| fail(&e))?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key))
            .map_err(|e| fail(&e))?;
        // Session caches would cost more memory than ten thousand devices are worth.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
