//! Certificates for servers and clients of tests.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// Makes certificates in `folder` with the program `openssl`: `NAME.pem`, and its key `NAME.key`.
///
/// `ca` is an authority that signs the certificates of `server`, for localhost and 127.0.0.1, and of `client`. `other`
/// is another authority, which signs that of `stranger`. All are valid for two days.
///
/// # Panics
///
/// Panics if the program is missing. The message says what to install.
pub fn make(folder: &Path) {
    for authority in ["ca", "other"] {
        let (key, certificate) = (format!("{authority}.key"), format!("{authority}.pem"));
        let subject = format!("/CN={authority}");
        let new = ["req", "-x509", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &certificate];
        openssl(folder, &[&new[..], &KEY].concat());
    }
    let usage = "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n";
    let extensions = format!("{usage}subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    fs::write(folder.join("extensions"), extensions).expect("the folder can be written to");
    for (name, authority) in [("server", "ca"), ("client", "ca"), ("stranger", "other")] {
        let [key, request, certificate] = ["key", "csr", "pem"].map(|kind| format!("{name}.{kind}"));
        let subject = format!("/CN={name}");
        let ask = ["req", "-new", "-subj", &subject, "-keyout", &key, "-out", &request];
        openssl(folder, &[&ask[..], &KEY].concat());
        let [by, by_key] = ["pem", "key"].map(|kind| format!("{authority}.{kind}"));
        let sign = ["x509", "-req", "-days", "2", "-CAcreateserial", "-extfile", "extensions"];
        openssl(folder, &[&sign[..], &["-in", &request, "-CA", &by, "-CAkey", &by_key, "-out", &certificate]].concat());
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).stdin(Stdio::null()).output();
    let output =
        output.expect("the program openssl makes certificates for these tests (Debian: apt-get install openssl)");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
