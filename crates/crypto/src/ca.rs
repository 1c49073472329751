//! The private certificate authority of the link: the Global Controller signs what sites ask for.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::FromDer;

use crate::{CryptoError, token, write_private};

/// A certificate authority.
pub struct Ca {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A private key and its certificate, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// Certificate.
    pub certificate_pem: String,
    /// Private key.
    pub key_pem: String,
}

/// What a site's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteName {
    /// The site.
    pub site_id: model::Id,
    /// Serial number in hex, for revocation.
    pub serial: String,
}

fn valid_days(params: &mut CertificateParams, days: i64) {
    let now = std::time::SystemTime::now();
    // An hour back, because clocks differ.
    params.not_before = (now - std::time::Duration::from_hours(1)).into();
    params.not_after = (now + std::time::Duration::from_hours(24 * u64::try_from(days).unwrap_or(1))).into();
}

fn serial() -> Result<SerialNumber, CryptoError> {
    let bytes = hex::decode(&token::random()[..32]).map_err(|e| CryptoError::bad("serial", e))?;
    Ok(SerialNumber::from_slice(&bytes))
}

impl Ca {
    /// The authority kept in a folder (`ca.pem`, `ca.key`); made there when it is not.
    pub fn load_or_create(folder: &Path) -> Result<Self, CryptoError> {
        let (cert, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !cert.exists() {
            std::fs::create_dir_all(folder)
                .map_err(|cause| CryptoError::File { path: folder.display().to_string(), cause })?;
            let pair = KeyPair::generate().map_err(|e| CryptoError::bad("key", e))?;
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "Steelyard link CA");
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            valid_days(&mut params, 3650);
            let certificate = params.self_signed(&pair).map_err(|e| CryptoError::bad("certificate", e))?;
            write_private(&key, pair.serialize_pem().as_bytes())?;
            write_private(&cert, certificate.pem().as_bytes())?;
        }
        let read = |p: &Path| {
            std::fs::read_to_string(p).map_err(|cause| CryptoError::File { path: p.display().to_string(), cause })
        };
        let certificate_pem = read(&cert)?;
        let pair = KeyPair::from_pem(&read(&key)?).map_err(|e| CryptoError::bad("ca.key", e))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, pair).map_err(|e| CryptoError::bad("ca.pem", e))?;
        Ok(Self { certificate_pem, issuer })
    }

    /// The authority's certificate, PEM: what sites trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A server certificate for these host names and addresses.
    pub fn server(&self, names: &[String]) -> Result<Identity, CryptoError> {
        let key = KeyPair::generate().map_err(|e| CryptoError::bad("key", e))?;
        let mut params = CertificateParams::new(names.to_vec()).map_err(|e| CryptoError::bad("host names", e))?;
        params.distinguished_name.push(DnType::CommonName, "Steelyard Global Controller");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.serial_number = Some(serial()?);
        valid_days(&mut params, 397);
        let certificate = params.signed_by(&key, &self.issuer).map_err(|e| CryptoError::bad("certificate", e))?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Signs a site's request. Nothing of the request is taken over but its key. Returns the certificate (PEM) and its name.
    pub fn sign_site(&self, csr_pem: &str, site_id: model::Id, days: i64) -> Result<(String, SiteName), CryptoError> {
        let mut request = CertificateSigningRequestParams::from_pem(csr_pem)
            .map_err(|e| CryptoError::bad("certificate request", e))?;
        let serial_number = serial()?;
        let name = SiteName { site_id, serial: hex::encode(serial_number.to_bytes()) };
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("site-{site_id}"));
        params.subject_alt_names = vec![SanType::DnsName(
            format!("site-{site_id}.steelyard").try_into().map_err(|e| CryptoError::bad("name", e))?,
        )];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(serial_number);
        valid_days(&mut params, days);
        request.params = params;
        let certificate = request.signed_by(&self.issuer).map_err(|e| CryptoError::bad("certificate", e))?;
        Ok((certificate.pem(), name))
    }
}

impl Identity {
    /// A key and a certificate that nobody else vouches for: others know it by its fingerprint.
    pub fn self_signed(name: &str) -> Result<Self, CryptoError> {
        let key = KeyPair::generate().map_err(|e| CryptoError::bad("key", e))?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(|e| CryptoError::bad("name", e))?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial()?);
        valid_days(&mut params, 3650);
        let certificate = params.self_signed(&key).map_err(|e| CryptoError::bad("certificate", e))?;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// The one kept in a folder (`NAME.pem`, `NAME.key`); made there when it is not.
    pub fn load_or_create(folder: &Path, name: &str) -> Result<Self, CryptoError> {
        let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        if !cert.exists() {
            let made = Self::self_signed(name)?;
            write_private(&key, made.key_pem.as_bytes())?;
            write_private(&cert, made.certificate_pem.as_bytes())?;
            return Ok(made);
        }
        let read = |p: &Path| {
            std::fs::read_to_string(p).map_err(|cause| CryptoError::File { path: p.display().to_string(), cause })
        };
        Ok(Self { certificate_pem: read(&cert)?, key_pem: read(&key)? })
    }

    /// A new key and the request for its certificate (PEM).
    pub fn request() -> Result<(String, String), CryptoError> {
        let key = KeyPair::generate().map_err(|e| CryptoError::bad("key", e))?;
        let csr = CertificateParams::default()
            .serialize_request(&key)
            .map_err(|e| CryptoError::bad("certificate request", e))?;
        Ok((key.serialize_pem(), csr.pem().map_err(|e| CryptoError::bad("certificate request", e))?))
    }
}

/// Who a client certificate, already verified against the authority, belongs to.
pub fn site_name(certificate: &CertificateDer<'_>) -> Result<SiteName, CryptoError> {
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|e| CryptoError::bad("client certificate", e))?;
    let name = parsed.subject().iter_common_name().next().and_then(|c| c.as_str().ok()).unwrap_or("");
    let site_id = name
        .strip_prefix("site-")
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| CryptoError::Bad(format!("client certificate: {name:?} is no site")))?;
    Ok(SiteName { site_id, serial: hex::encode(parsed.raw_serial()).trim_start_matches("00").to_owned() })
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn a_site_is_named_by_its_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::load_or_create(dir.path()).unwrap();
        assert_eq!(Ca::load_or_create(dir.path()).unwrap().certificate_pem(), ca.certificate_pem());
        let (_key, csr) = Identity::request().unwrap();
        let (pem, name) = ca.sign_site(&csr, 7, 90).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let read = site_name(&der).unwrap();
        assert_eq!(read.site_id, 7);
        assert_eq!(read.serial, name.serial.trim_start_matches("00"));
        assert!(ca.sign_site("rubbish", 7, 90).is_err());
        let server =
            CertificateDer::from_pem_slice(ca.server(&["localhost".into()]).unwrap().certificate_pem.as_bytes())
                .unwrap();
        assert!(site_name(&server).is_err());
    }
}
