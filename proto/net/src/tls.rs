//! Who is at the other end: TLS 1.3 between self-signed Ed25519 certificates, both ways.
//!
//! The certificate is only an envelope for the key. [`KeyVerifier`] takes the key out, compares it
//! with what was expected, and leaves the proof that the other side holds it to rustls: the
//! handshake signature is always verified. Names, dates and issuers in the certificate mean
//! nothing here.
//!
//! There is no resumption, no ticket and no early data: a resumed session would skip the verifier.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, PeerMisbehaved,
    ServerConfig, SignatureScheme,
};

use warren_proto::id::{PublicKey, TrackerPin};

use crate::identity::Identity;

/// SubjectPublicKeyInfo of an Ed25519 key is this prefix and the 32 bytes of the key (RFC 8410 §4).
const ED25519_SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Whose key the other side must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Exactly this key.
    Key(PublicKey),
    /// The key this pin was made from.
    Pin(TrackerPin),
    /// Any key; the caller takes the proven one as the other side's identity.
    Any,
}

impl Expect {
    /// Whether `key` is one we expect.
    pub fn accepts(&self, key: &PublicKey) -> bool {
        match self {
            Self::Key(expected) => expected == key,
            Self::Pin(expected) => *expected == TrackerPin::of(key),
            Self::Any => true,
        }
    }
}

/// What a connection is for; the other side must speak it too (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// A daemon talking to a tracker.
    Tracker,
    /// Two daemons.
    Peer,
}

impl Protocol {
    /// The protocol's name on the wire.
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Tracker => b"warren-tracker/1",
            Self::Peer => b"warren-peer/1",
        }
    }

    /// The protocol of this name.
    pub fn from_alpn(name: &[u8]) -> Option<Self> {
        [Self::Tracker, Self::Peer]
            .into_iter()
            .find(|protocol| protocol.alpn() == name)
    }
}

/// The Ed25519 key inside a certificate, if it is one of ours at all.
pub fn key_of(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok()?;
    let spki = parsed.subject_public_key_info();
    let key = spki.as_ref().strip_prefix(&ED25519_SPKI_PREFIX)?;
    Some(PublicKey(key.try_into().ok()?))
}

/// Compares the presented key with the expected one, and remembers one that did not match.
#[derive(Debug)]
pub struct KeyVerifier {
    expect: Expect,
    provider: Arc<CryptoProvider>,
    mismatch: Mutex<Option<PublicKey>>,
}

impl KeyVerifier {
    /// A verifier for one connection attempt, or for all that a server accepts.
    pub fn new(expect: Expect) -> Arc<Self> {
        Arc::new(Self {
            expect,
            provider: provider(),
            mismatch: Mutex::new(None),
        })
    }

    /// The key that was presented in place of the expected one, once that has happened.
    pub fn mismatch(&self) -> Option<PublicKey> {
        *self.mismatch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), rustls::Error> {
        if !intermediates.is_empty() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let key = key_of(certificate).ok_or(CertificateError::BadEncoding)?;
        if self.expect.accepts(&key) {
            return Ok(());
        }
        *self.mismatch.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }
}

/// TLS 1.2 is not even compiled in; should rustls ever ask, the answer is no.
fn refuse_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
    Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for KeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, intermediates)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// What we dial with.
///
/// # Errors
///
/// When rustls finds fault with our own key, which [`Identity`] rules out.
pub fn client_config(
    identity: &Identity,
    protocol: Protocol,
    verifier: Arc<KeyVerifier>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(vec![identity.certificate()], identity.private_key())?;
    config.alpn_protocols = vec![protocol.alpn().to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// What we accept with: any client key, as long as it is proven.
///
/// # Errors
///
/// When rustls finds fault with our own key, which [`Identity`] rules out.
pub fn server_config(
    identity: &Identity,
    serves: &[Protocol],
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(KeyVerifier::new(Expect::Any))
        .with_single_cert(vec![identity.certificate()], identity.private_key())?;
    config.alpn_protocols = serves
        .iter()
        .map(|protocol| protocol.alpn().to_vec())
        .collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// ring, with AES-128-GCM first: the fastest where AES is in hardware. ChaCha20 stays for machines
/// where it is not.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_CHACHA20_POLY1305_SHA256],
        ..rustls::crypto::ring::default_provider()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_in_a_certificate_is_the_identitys() {
        let identity = Identity::generate().unwrap();
        assert_eq!(key_of(&identity.certificate()), Some(identity.public_key()));
    }

    #[test]
    fn a_certificate_that_is_not_ed25519_has_no_key_for_us() {
        let other = rcgen::generate_simple_self_signed(vec!["warren".to_owned()]).unwrap();
        assert_eq!(key_of(other.cert.der()), None);
        assert_eq!(
            key_of(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])),
            None
        );
        assert_eq!(key_of(&CertificateDer::from(Vec::new())), None);
    }

    #[test]
    fn a_pin_accepts_its_key_only() {
        let (ours, other) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let pin = Expect::Pin(TrackerPin::of(&ours.public_key()));
        assert!(pin.accepts(&ours.public_key()));
        assert!(!pin.accepts(&other.public_key()));
    }

    #[test]
    fn alpn_names_read_back() {
        for protocol in [Protocol::Tracker, Protocol::Peer] {
            assert_eq!(Protocol::from_alpn(protocol.alpn()), Some(protocol));
        }
        assert_eq!(Protocol::from_alpn(b"h3"), None);
    }
}
