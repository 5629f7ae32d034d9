//! The gateway's certificates: chosen by the name that a client asks for, and taken anew when their files change.
//!
//! A file that cannot be used changes nothing: the former certificates stay, and the log says why.

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use prometheus_client::metrics::counter::Counter;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use thiserror::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use weft_http::Wire;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use crate::{config::CertificateFiles, limits};

#[derive(Debug, Error)]
pub enum CertificateError {
    #[error("cannot read {path}: {why}")]
    Read { path: PathBuf, why: String },
    #[error("{path} holds no certificate")]
    Empty { path: PathBuf },
    #[error("{chain}: the certificate cannot be used: {why}")]
    Certificate { chain: PathBuf, why: String },
    #[error("{key} is not the key of {chain}: {why}")]
    Key { chain: PathBuf, key: PathBuf, why: String },
    #[error("{chain} names no host (subjectAltName)")]
    Nameless { chain: PathBuf },
}

/// All certificates, replaced whole.
pub struct Certificates {
    files: Vec<CertificateFiles>,
    set: RwLock<Arc<Set>>,
    failed: Counter,
}

/// A file as it was looked at: inode, time of change, size.
type Mark = Option<(u64, i64, i64, u64)>;

struct Set {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// For clients that name nobody, as those that dial an address do.
    first: Arc<CertifiedKey>,
    /// The earliest end, in Unix seconds.
    not_after: i64,
    /// What the files looked like before they were read.
    marks: Vec<Mark>,
}

impl Certificates {
    pub fn load(files: Vec<CertificateFiles>) -> Result<Arc<Self>, CertificateError> {
        let set = RwLock::new(Arc::new(Set::load(&files)?));
        Ok(Arc::new(Self { files, set, failed: Counter::default() }))
    }

    /// Reloads that changed nothing, because the files could not be used.
    pub fn failed(&self) -> &Counter {
        &self.failed
    }

    /// Unix seconds at which the first of them ends.
    pub fn not_after(&self) -> i64 {
        self.set().not_after
    }

    /// Looks at the files until told to stop, and at once when `nudge` says so.
    pub async fn watch(self: Arc<Self>, mut nudge: tokio::sync::mpsc::Receiver<()>, stop: CancellationToken) {
        let mut seen = self.set().marks.clone();
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = nudge.recv() => true,
                () = sleep(limits::CERTIFICATE_LOOK) => false,
            };
            let now = look(&self.files);
            if now != seen || asked {
                seen = now;
                self.reload();
            }
        }
    }

    fn reload(&self) {
        match Set::load(&self.files) {
            Ok(set) => {
                tracing::info!(names = set.by_name.len(), not_after = set.not_after, "certificates loaded");
                *self.set.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
            }
            Err(error) => {
                self.failed.inc();
                tracing::error!(%error, "certificates cannot be loaded; the former ones stay");
            }
        }
    }

    fn set(&self) -> Arc<Set> {
        Arc::clone(&self.set.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Set {
    fn load(files: &[CertificateFiles]) -> Result<Self, CertificateError> {
        let marks = look(files);
        let mut by_name = HashMap::new();
        let (mut first, mut not_after) = (None, i64::MAX);
        for pair in files {
            let (certified, names, ends) = load(pair)?;
            let certified = Arc::new(certified);
            not_after = not_after.min(ends);
            for name in names {
                by_name.entry(name).or_insert_with(|| Arc::clone(&certified));
            }
            first.get_or_insert(certified);
        }
        let first = first.ok_or_else(|| CertificateError::Empty { path: PathBuf::from("certificates") })?;
        Ok(Self { by_name, first, not_after, marks })
    }

    /// The exact name before the wildcard one label above it (RFC 9525 section 6.3).
    fn find(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(&name).or_else(wildcard).cloned()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let set = self.set();
        match hello.server_name() {
            Some(name) => set.find(name),
            None => Some(Arc::clone(&set.first)),
        }
    }
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").field("files", &self.files).finish_non_exhaustive()
    }
}

/// TLS 1.2 and 1.3 as rustls has them by default, tickets for resumption, HTTP/2 before HTTP/1.1.
pub fn server_config(certificates: Arc<Certificates>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = Wire::ALPN.map(<[u8]>::to_vec).to_vec();
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // One ticket is enough: browsers open few connections, and each ticket costs.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

fn look(files: &[CertificateFiles]) -> Vec<Mark> {
    let mark = |path: &Path| fs::metadata(path).ok().map(|m| (m.ino(), m.mtime(), m.mtime_nsec(), m.len()));
    files.iter().flat_map(|pair| [mark(&pair.chain), mark(&pair.key)]).collect()
}

fn load(pair: &CertificateFiles) -> Result<(CertifiedKey, Vec<String>, i64), CertificateError> {
    let read = |path: &Path| {
        let fail = |why: String| CertificateError::Read { path: path.to_owned(), why };
        let length = fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
        if length > limits::CERTIFICATE_FILE_MAX_BYTES {
            return Err(fail(format!("it is larger than {} bytes", limits::CERTIFICATE_FILE_MAX_BYTES)));
        }
        fs::read(path).map_err(|e| fail(e.to_string()))
    };
    let (chain, key) = (read(&pair.chain)?, zeroize::Zeroizing::new(read(&pair.key)?));
    let certificate = |why: String| CertificateError::Certificate { chain: pair.chain.clone(), why };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>().map_err(|e| certificate(e.to_string()))?;
    let leaf = chain.first().ok_or_else(|| CertificateError::Empty { path: pair.chain.clone() })?;
    let (names, not_after) = names(leaf).map_err(certificate)?;
    if names.is_empty() {
        return Err(CertificateError::Nameless { chain: pair.chain.clone() });
    }
    let wrong = |why: String| CertificateError::Key { chain: pair.chain.clone(), key: pair.key.clone(), why };
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|e| wrong(e.to_string()))?;
    let certified = CertifiedKey::from_der(chain.clone(), key, &aws_lc_rs::default_provider()).map_err(|e| wrong(e.to_string()))?;
    Ok((certified, names, not_after))
}

fn names(leaf: &CertificateDer<'_>) -> Result<(Vec<String>, i64), String> {
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|e| e.to_string())?;
    let alternative = parsed.subject_alternative_name().map_err(|e| e.to_string())?;
    let names = alternative.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|a| a.to_string()),
        _ => None,
    });
    Ok((names.collect(), parsed.validity().not_after.timestamp()))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, hosts: &[&str]) -> CertificateFiles {
        let made = rcgen::generate_simple_self_signed(hosts.iter().map(|h| (*h).to_owned()).collect::<Vec<_>>()).unwrap();
        let files = CertificateFiles { chain: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
        std::fs::write(&files.chain, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn the_exact_name_comes_before_the_wildcard_and_another_name_gets_none() {
        let dir = tempfile::tempdir().unwrap();
        let files = vec![write(dir.path(), "wild", &["*.apps.example"]), write(dir.path(), "own", &["shop.apps.example"])];
        let set = Set::load(&files).unwrap();
        let same = |name: &str, key: &Arc<CertifiedKey>| set.find(name).is_some_and(|found| Arc::ptr_eq(&found, key));
        let (wild, own) = (&set.by_name["*.apps.example"], &set.by_name["shop.apps.example"]);
        assert!(same("SHOP.apps.example", own) && same("portal.apps.example", wild));
        for other in ["apps.example", "a.b.apps.example", "other.example", "example"] {
            assert!(set.find(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_broken_pair_is_named_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (write(dir.path(), "one", &["one.example"]), write(dir.path(), "two", &["two.example"]));
        let certificates = Certificates::load(vec![one.clone()]).unwrap();
        let before = certificates.set();
        std::fs::copy(&two.key, &one.key).unwrap();
        certificates.reload();
        assert!(Arc::ptr_eq(&before, &certificates.set()));
        let error = Set::load(std::slice::from_ref(&one)).err().unwrap().to_string();
        assert!(error.contains("one.key is not the key of"), "{error}");
        std::fs::copy(&two.chain, &one.chain).unwrap();
        certificates.reload();
        assert!(certificates.set().find("two.example").is_some() && certificates.set().find("one.example").is_none());
        std::fs::write(&one.chain, "nothing").unwrap();
        assert!(Set::load(&[one]).err().unwrap().to_string().contains("holds no certificate"));
    }
}
