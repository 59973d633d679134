//! The files that the options of TLS name.

use std::path::{Path, PathBuf};

use super::InvalidOption;

/// The PEM files that the options `ca`, `cert` and `key` of a URL name. None of them is read here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    ca: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Trusts the certificates in `file` instead of the system's.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`] for an empty name.
    pub fn trust(&mut self, file: PathBuf) -> Result<(), InvalidOption> {
        self.ca = Some(pem_file("ca", file)?);
        Ok(())
    }

    /// Presents the certificate in the file `cert`, whose private key is in the file `key`.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`] for an empty name.
    pub fn present(&mut self, cert: PathBuf, key: PathBuf) -> Result<(), InvalidOption> {
        self.identity = Some((pem_file("cert", cert)?, pem_file("key", key)?));
        Ok(())
    }

    /// The certificates to trust instead of the system's.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        self.ca.as_deref()
    }

    /// The certificate and the private key of this client.
    #[must_use]
    pub fn identity(&self) -> Option<(&Path, &Path)> {
        self.identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()))
    }
}

fn pem_file(option: &'static str, file: PathBuf) -> Result<PathBuf, InvalidOption> {
    if file.as_os_str().is_empty() {
        return Err(InvalidOption::unusable(option, "", "write the name of a PEM file"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_refused() {
        let mut files = TlsFiles::default();
        files.trust("ca.pem".into()).unwrap();
        files.present("cert.pem".into(), "key.pem".into()).unwrap();
        let named = files.clone();
        assert_eq!(named.ca(), Some(Path::new("ca.pem")));
        assert_eq!(named.identity(), Some((Path::new("cert.pem"), Path::new("key.pem"))));
        for (refused, option) in [
            (files.trust(PathBuf::new()), "ca"),
            (files.present(PathBuf::new(), "key.pem".into()), "cert"),
            (files.present("cert.pem".into(), PathBuf::new()), "key"),
        ] {
            let error = refused.unwrap_err();
            assert_eq!(error.option, option);
            assert!(error.to_string().contains("a PEM file"), "{error}");
        }
        assert_eq!(files, named);
    }
}
