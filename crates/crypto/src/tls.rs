//! TLS configurations: the link, devices, and machines that run the boot image.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, ProtocolVersion, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    server::danger::{ClientCertVerified, ClientCertVerifier},
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
    let verifier = Pinned { authority: authority.to_ascii_lowercase(), signatures: Signatures(provider.clone()) };
    let mut config =
        ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Checks that the other end has the key of the certificate that it shows.
#[derive(Debug)]
struct Signatures(Arc<rustls::crypto::CryptoProvider>);

impl Signatures {
    fn check(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        version: ProtocolVersion,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        if version == ProtocolVersion::TLSv1_2 {
            rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
        } else {
            rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
        }
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What a verifier does once a key was proved.
type Proved<V> = fn(&V, &CertificateDer<'_>) -> Result<(), rustls::Error>;

/// The signature methods of a verifier that has `signatures`; `$after` sees the certificate whose key was proved.
macro_rules! signature_methods {
    ($after:expr) => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let valid = self.signatures.check(message, certificate, signed, ProtocolVersion::TLSv1_2)?;
            let after: Proved<Self> = $after;
            after(self, certificate).map(|()| valid)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            let valid = self.signatures.check(message, certificate, signed, ProtocolVersion::TLSv1_3)?;
            let after: Proved<Self> = $after;
            after(self, certificate).map(|()| valid)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.signatures.schemes()
        }
    };
}

#[derive(Debug)]
struct Pinned {
    authority: String,
    signatures: Signatures,
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
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.signatures.0.clone())
            .build()
            .map_err(|_| unknown())?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    // The certificate itself was checked: there is nothing to remember.
    signature_methods!(|_, _| Ok(()));
}

/// The certificates that a device has shown, kept by whoever talks to it.
#[derive(Debug, Default)]
pub struct Shown(Mutex<Certificates>);

#[derive(Debug, Default)]
struct Certificates {
    accepted: Option<String>,
    refused: Option<String>,
}

impl Shown {
    fn with<T>(&self, f: impl FnOnce(&mut Certificates) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// SHA-256 (hex) of the certificate whose key the device has proved to have.
    pub fn fingerprint(&self) -> Option<String> {
        self.with(|c| c.accepted.clone())
    }

    /// SHA-256 (hex) of the certificate that was refused last, because another one was expected.
    pub fn refused(&self) -> Option<String> {
        self.with(|c| c.refused.clone())
    }
}

/// A client for a device whose certificate no authority has signed. Without a pin the first certificate is accepted, and from then on only
/// that one; with a pin (SHA-256 in hex) only the pinned one. `shown` tells which it was.
pub fn device(pin: Option<&str>, shown: Arc<Shown>) -> Result<ClientConfig, CryptoError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let signatures = Signatures(provider.clone());
    let verifier = Device { pin: pin.map(str::to_ascii_lowercase), shown, signatures };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| CryptoError::bad("TLS client", e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session shows no certificate.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

#[derive(Debug)]
struct Device {
    pin: Option<String>,
    shown: Arc<Shown>,
    signatures: Signatures,
}

impl Device {
    /// The key was proved: only now is the certificate that of the device, and not of somebody who has copied it.
    fn proved(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let now = token::digest(certificate);
        self.shown.with(|c| {
            // Two first connections at once may meet two certificates.
            if c.accepted.as_ref().is_some_and(|first| *first != now) {
                c.refused = Some(now);
                return Err(changed());
            }
            c.accepted = Some(now);
            c.refused = None;
            Ok(())
        })
    }
}

fn changed() -> rustls::Error {
    rustls::Error::General("the device shows another certificate than before".into())
}

impl ServerCertVerifier for Device {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let now = token::digest(end_entity);
        self.shown.with(|c| match self.pin.as_ref().or(c.accepted.as_ref()) {
            Some(expected) if !token::equal(expected, &now) => {
                c.refused = Some(now);
                Err(changed())
            }
            _ => Ok(ServerCertVerified::assertion()),
        })
    }

    signature_methods!(Self::proved);
}

/// A machine that runs the boot image: it knows the site by its certificate alone (SHA-256 in hex), and shows one of its own.
pub fn machine(pin: &str, identity: &Identity) -> Result<ClientConfig, CryptoError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (pin, signatures) = (Some(pin.to_ascii_lowercase()), Signatures(provider.clone()));
    let verifier = Device { pin, shown: Arc::default(), signatures };
    let (chain, key) = parts(identity)?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| CryptoError::bad("TLS client", e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .map_err(|e| CryptoError::bad("TLS client", e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The site's end of that: a client must show a certificate and prove that it has the key. No authority vouches for it; who it is the
/// caller knows by its fingerprint.
pub fn for_machines(identity: &Identity) -> Result<ServerConfig, CryptoError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (chain, key) = parts(identity)?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| CryptoError::bad("TLS server", e))?
        .with_client_cert_verifier(Arc::new(Machines { signatures: Signatures(provider) }))
        .with_single_cert(chain, key)
        .map_err(|e| CryptoError::bad("TLS server", e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A server for devices: they look at no authority, and many speak TLS 1.2 alone.
pub fn for_devices(identity: &Identity) -> Result<ServerConfig, CryptoError> {
    let (chain, key) = parts(identity)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| CryptoError::bad("TLS server", e))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| CryptoError::bad("TLS server", e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[derive(Debug)]
struct Machines {
    signatures: Signatures,
}

impl ClientCertVerifier for Machines {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    signature_methods!(|_, _| Ok(()));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{ClientConnection, ServerConfig, ServerConnection};
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};

    /// A device with a certificate of its own making.
    fn device() -> (Arc<ServerConfig>, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["bmc".to_owned()]).unwrap().self_signed(&key).unwrap();
        let print = crate::token::digest(made.der());
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let chain = vec![CertificateDer::from(made.der().to_vec())];
        (Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap()), print)
    }

    fn shake(client: &Arc<rustls::ClientConfig>, server: &Arc<ServerConfig>) -> Result<(), rustls::Error> {
        let mut client = ClientConnection::new(client.clone(), "10.0.0.1".try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(server.clone()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut wire.as_slice()).unwrap();
            server.process_new_packets()?;
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut wire.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn the_first_certificate_of_a_device_is_kept_and_another_refused() {
        crate::install_provider();
        let ((ours, print), (theirs, other)) = (device(), device());
        let shown = Arc::new(super::Shown::default());
        let client = Arc::new(super::device(None, shown.clone()).unwrap());
        assert_eq!(shown.fingerprint(), None);
        shake(&client, &ours).unwrap();
        shake(&client, &ours).unwrap();
        assert_eq!((shown.fingerprint(), shown.refused()), (Some(print.clone()), None));
        assert!(shake(&client, &theirs).is_err());
        assert_eq!((shown.fingerprint(), shown.refused()), (Some(print.clone()), Some(other.clone())));

        let shown = Arc::new(super::Shown::default());
        let client = Arc::new(super::device(Some(&print.to_uppercase()), shown.clone()).unwrap());
        assert!(shake(&client, &theirs).is_err());
        assert_eq!((shown.fingerprint(), shown.refused()), (None, Some(other)));
        shake(&client, &ours).unwrap();
        assert_eq!((shown.fingerprint(), shown.refused()), (Some(print), None));
    }

    #[test]
    fn a_machine_and_its_site_know_each_other_by_their_keys() {
        crate::install_provider();
        let (site, other) =
            (crate::Identity::self_signed("site").unwrap(), crate::Identity::self_signed("site").unwrap());
        let machine = crate::Identity::self_signed("machine").unwrap();
        let server = Arc::new(super::for_machines(&site).unwrap());
        let client = |pin: &crate::Identity| {
            let pin = super::fingerprint(&pin.certificate_pem).unwrap();
            Arc::new(super::machine(&pin, &machine).unwrap())
        };
        shake(&client(&site), &server).unwrap();
        assert!(shake(&client(&other), &server).is_err(), "another site");
        let nameless = super::device(None, Arc::default()).unwrap();
        assert!(shake(&Arc::new(nameless), &server).is_err(), "a client without a certificate");
    }

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
