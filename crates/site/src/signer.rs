//! The key with which a site signs what it says of cleanings.

use std::path::Path;

use crypto::{CryptoError, signature};
use model::cleaning::{SignedStatement, Statement};

/// Word that names what is signed, and its version.
pub(crate) const KIND: &str = "steelyard.cleaning/1";

/// An Ed25519 key.
pub(crate) struct Signer {
    pkcs8: Vec<u8>,
    public: String,
}

impl Signer {
    /// The key kept in a folder; made there when it is not.
    pub(crate) fn load_or_create(folder: &Path) -> Result<Self, CryptoError> {
        let fail = |path: &Path, cause| CryptoError::File { path: path.display().to_string(), cause };
        let (key, public) = (folder.join("statements.key"), folder.join("statements.pub"));
        // The public part is written first: a key without it would be useless.
        if !key.exists() {
            let (pkcs8, hex) = signature::generate()?;
            std::fs::write(&public, hex).map_err(|e| fail(&public, e))?;
            crypto::write_private(&key, &pkcs8)?;
        }
        let pkcs8 = std::fs::read(&key).map_err(|e| fail(&key, e))?;
        let public = std::fs::read_to_string(&public).map_err(|e| fail(&public, e))?.trim().to_owned();
        let probe = signature::sign(&pkcs8, b"probe")?;
        if !signature::verify(&public, b"probe", &probe) {
            return Err(CryptoError::Bad(format!(
                "the two parts of the key in {} do not fit; restore both from a copy, or delete both for a new key",
                folder.display()
            )));
        }
        Ok(Self { pkcs8, public })
    }

    /// Signs a statement, byte for byte as it is written here.
    pub(crate) fn sign(&self, statement: &Statement) -> Result<SignedStatement, CryptoError> {
        let text = serde_json::to_string(statement).map_err(|e| CryptoError::Bad(format!("the statement: {e}")))?;
        let signature = signature::sign(&self.pkcs8, text.as_bytes())?;
        Ok(SignedStatement { statement: text, public_key: self.public.clone(), signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_the_same_and_signs_what_can_be_checked() {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::load_or_create(folder.path()).unwrap();
        let signed =
            signer.sign(&Statement { kind: KIND.into(), server: "S1".into(), ..Statement::default() }).unwrap();
        assert!(signature::verify(&signed.public_key, signed.statement.as_bytes(), &signed.signature));
        assert!(!signature::verify(
            &signed.public_key,
            signed.statement.replace("S1", "S2").as_bytes(),
            &signed.signature
        ));
        let again = Signer::load_or_create(folder.path()).unwrap();
        assert_eq!(again.public, signer.public);
        std::fs::write(folder.path().join("statements.pub"), "00").unwrap();
        assert!(Signer::load_or_create(folder.path()).is_err());
    }
}
