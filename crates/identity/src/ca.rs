//! The mesh CA: one P-256 key that signs what the bridge decided. It keeps nothing: where key and certificate lie is the bridge's business.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use time::OffsetDateTime;
use weft_types::{SpiffeId, TrustDomain};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::{BundleError, TrustBundle, limits};

/// Signs certificates of one trust domain.
pub struct Ca {
    trust_domain: TrustDomain,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
}

/// A new CA and what its keeper stores.
pub struct NewCa {
    pub ca: Ca,
    pub pkcs8: Zeroizing<Vec<u8>>,
}

/// A certificate just signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Leaf first, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
    /// Hex.
    pub serial: String,
}

#[derive(Debug, Error)]
pub enum CaError {
    #[error("the CA's key is no P-256 key in PKCS#8")]
    Key(#[source] rcgen::Error),
    #[error("the CA's certificate cannot be read")]
    Certificate,
    #[error("the CA's certificate is not a CA's: it may not sign certificates")]
    NotACa,
    #[error("the CA's certificate belongs to another key")]
    Mismatch,
    #[error("the CA's certificate names no trust domain, or another one than {0}")]
    TrustDomain(TrustDomain),
    #[error("no CA can be made")]
    Create(#[source] rcgen::Error),
}

#[derive(Debug, Error)]
pub enum SignError {
    #[error("signing request is longer than {max} bytes", max = limits::CSR_MAX_BYTES)]
    TooLarge,
    #[error("signing request cannot be read, or its own signature does not fit")]
    Request(#[source] rcgen::Error),
    #[error("signing request holds another key than P-256")]
    Algorithm,
    #[error("{id} is not of the trust domain {own}")]
    Foreign { id: SpiffeId, own: TrustDomain },
    #[error("the mesh CA has expired: remove its files to make a new one, and let every node join again")]
    Expired,
    #[error("no certificate can be made")]
    Sign(#[source] rcgen::Error),
    #[error("the system gives no randomness")]
    Randomness,
}

impl Ca {
    /// A new key with a self-signed certificate, valid from `now` for [`limits::CA_TTL`].
    pub fn create(trust_domain: &TrustDomain, now: SystemTime) -> Result<NewCa, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Create)?;
        let mut params = CertificateParams::default();
        // The fingerprint keeps two CAs of one trust domain apart: with equal subjects a verifier tries the wrong key.
        let hash = digest::digest(&digest::SHA256, key.public_key_raw());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "weft");
        params.distinguished_name.push(DnType::CommonName, format!("weft mesh CA {}", &hex(hash.as_ref())[..16]));
        params.subject_alt_names = vec![SanType::URI(trust_domain_uri(trust_domain).try_into().map_err(CaError::Create)?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = seconds(now - limits::BACKDATE_MAX);
        params.not_after = seconds(now + limits::CA_TTL);
        let mut serial = [0; 16];
        serial.copy_from_slice(&hash.as_ref()[..16]);
        params.serial_number = Some(SerialNumber::from_slice(&positive(serial)));
        let certificate = params.self_signed(&key).map_err(CaError::Create)?.der().clone();
        let pkcs8 = Zeroizing::new(key.serialize_der());
        Ok(NewCa { ca: Self::load(trust_domain, certificate, &pkcs8)?, pkcs8 })
    }

    /// Reads a CA back; certificate, key and trust domain must belong together.
    pub fn load(trust_domain: &TrustDomain, certificate: CertificateDer<'static>, pkcs8: &[u8]) -> Result<Self, CaError> {
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let key = KeyPair::from_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(CaError::Key)?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| CaError::Certificate)?;
        if !parsed.is_ca() {
            return Err(CaError::NotACa);
        }
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(CaError::Mismatch);
        }
        if crate::peer::uris(&parsed) != [trust_domain_uri(trust_domain)] {
            return Err(CaError::TrustDomain(trust_domain.clone()));
        }
        let not_after = parsed.validity().not_after.to_datetime().into();
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| CaError::Certificate)?;
        Ok(Self { trust_domain: trust_domain.clone(), certificate, issuer, not_after })
    }

    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// SHA-256 of the certificate: what a join token carries.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate)
    }

    pub fn bundle(&self) -> Result<TrustBundle, BundleError> {
        TrustBundle::new(self.trust_domain.clone(), vec![self.certificate.clone()])
    }

    /// Signs the key of a PKCS#10 request for `id`. Of the request only the key counts: names, usages and dates are the caller's decision alone. The life
    /// is held within [`limits::TTL_MIN`] and [`limits::TTL_MAX`] and ends with the CA's own.
    pub fn sign(&self, csr: &[u8], id: &SpiffeId, now: SystemTime, ttl: Duration) -> Result<Signed, SignError> {
        if csr.len() > limits::CSR_MAX_BYTES {
            return Err(SignError::TooLarge);
        }
        if id.trust_domain() != &self.trust_domain {
            return Err(SignError::Foreign { id: id.clone(), own: self.trust_domain.clone() });
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr)).map_err(SignError::Request)?;
        let key = request.public_key;
        // The request's algorithm is that of its signature; an uncompressed P-256 point has 65 bytes.
        if *key.algorithm() != PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != 65 {
            return Err(SignError::Algorithm);
        }
        let ttl = ttl.clamp(limits::TTL_MIN, limits::TTL_MAX);
        let not_after = (now + ttl).min(self.not_after);
        if not_after <= now {
            return Err(SignError::Expired);
        }
        let mut serial = [0; 16];
        aws_lc_rs::rand::fill(&mut serial).map_err(|_| SignError::Randomness)?;
        let serial = positive(serial);
        let params = leaf(id, seconds(now - (ttl / 6).min(limits::BACKDATE_MAX)), seconds(not_after), &serial).map_err(SignError::Sign)?;
        let (not_before, not_after) = (params.not_before.into(), params.not_after.into());
        let certificate = params.signed_by(&key, &self.issuer).map_err(SignError::Sign)?;
        Ok(Signed { chain: vec![certificate.der().clone()], not_before, not_after, serial: hex(&serial) })
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("trust_domain", &self.trust_domain).field("fingerprint", &hex(&self.fingerprint())).finish_non_exhaustive()
    }
}

impl fmt::Debug for NewCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ca.fmt(f)
    }
}

/// An X.509-SVID leaf (SPIFFE X509-SVID §4): exactly one URI, no CA, signs only handshakes.
fn leaf(id: &SpiffeId, not_before: OffsetDateTime, not_after: OffsetDateTime, serial: &[u8]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "weft");
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = not_before;
    params.not_after = not_after;
    Ok(params)
}

/// RFC 5280 4.1.2.2: positive, without a leading zero byte.
fn positive(mut serial: [u8; 16]) -> [u8; 16] {
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
    hash
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn trust_domain_uri(trust_domain: &TrustDomain) -> String {
    format!("spiffe://{trust_domain}")
}

/// A certificate's time has no fraction.
fn seconds(time: SystemTime) -> OffsetDateTime {
    let time = OffsetDateTime::from(time);
    time.replace_nanosecond(0).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyAndCsr, peer_id};

    fn domain(name: &str) -> TrustDomain {
        name.parse().unwrap()
    }

    #[test]
    fn a_ca_comes_back_from_what_was_stored() {
        let new = Ca::create(&domain("corp.example"), SystemTime::now()).unwrap();
        let certificate = new.ca.certificate().clone();
        let again = Ca::load(&domain("corp.example"), certificate.clone(), &new.pkcs8).unwrap();
        assert_eq!(again.fingerprint(), new.ca.fingerprint());
        assert!(matches!(Ca::load(&domain("other.example"), certificate.clone(), &new.pkcs8), Err(CaError::TrustDomain(_))));
        let other = Ca::create(&domain("corp.example"), SystemTime::now()).unwrap();
        assert!(matches!(Ca::load(&domain("corp.example"), certificate, &other.pkcs8), Err(CaError::Mismatch)));
        assert!(!format!("{new:?}").contains("pkcs8"));
    }

    #[test]
    fn a_leaf_names_what_the_caller_decided_and_nothing_of_the_request() {
        let ca = Ca::create(&domain("corp.example"), SystemTime::now()).unwrap().ca;
        let id: SpiffeId = "spiffe://corp.example/ns/shop/sa/orders".parse().unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut wish = CertificateParams::new(["evil.example".to_owned()]).unwrap();
        wish.subject_alt_names.push(SanType::URI("spiffe://corp.example/ns/shop/sa/admin".to_owned().try_into().unwrap()));
        wish.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let csr = wish.serialize_request(&key).unwrap();
        let now = SystemTime::now();
        let signed = ca.sign(csr.der(), &id, now, Duration::from_secs(60)).unwrap();
        assert_eq!(peer_id(&signed.chain).unwrap(), id);
        let (_, parsed) = X509Certificate::from_der(&signed.chain[0]).unwrap();
        assert!(!parsed.is_ca());
        assert_eq!(parsed.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
        assert_eq!(parsed.validity().not_after.timestamp(), OffsetDateTime::from(signed.not_after).unix_timestamp());
        let life = signed.not_after.duration_since(now).unwrap();
        assert!(life > Duration::from_secs(58) && life <= Duration::from_secs(60), "{life:?}");
        assert!(signed.not_before <= now - Duration::from_secs(9));
    }

    #[test]
    fn requests_that_cannot_be_honoured_are_refused() {
        let now = SystemTime::now();
        let ca = Ca::create(&domain("corp.example"), now).unwrap().ca;
        let own: SpiffeId = "spiffe://corp.example/ns/shop/sa/orders".parse().unwrap();
        let foreign: SpiffeId = "spiffe://evil.example/ns/shop/sa/orders".parse().unwrap();
        let day = Duration::from_secs(86_400);
        let good = KeyAndCsr::generate().unwrap();
        assert!(ca.sign(good.csr(), &own, now, day).is_ok());
        assert!(matches!(ca.sign(good.csr(), &foreign, now, day), Err(SignError::Foreign { .. })));
        assert!(matches!(ca.sign(good.csr(), &own, now + limits::CA_TTL, day), Err(SignError::Expired)));
        assert!(matches!(ca.sign(&[0; limits::CSR_MAX_BYTES + 1], &own, now, day), Err(SignError::TooLarge)));
        let mut forged = good.csr().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert!(matches!(ca.sign(&forged, &own, now, day), Err(SignError::Request(_))));
        let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let csr = CertificateParams::default().serialize_request(&p384).unwrap();
        assert!(matches!(ca.sign(csr.der(), &own, now, day), Err(SignError::Algorithm)));
    }

    #[test]
    fn no_certificate_outlives_its_ca() {
        let now = SystemTime::now();
        let ca = Ca::create(&domain("corp.example"), now).unwrap().ca;
        let id: SpiffeId = "spiffe://corp.example/node/a".parse().unwrap();
        let late = now + limits::CA_TTL - Duration::from_secs(3600);
        let signed = ca.sign(KeyAndCsr::generate().unwrap().csr(), &id, late, limits::TTL_MAX).unwrap();
        assert_eq!(signed.not_after, ca.not_after());
    }
}
