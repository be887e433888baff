//! The TLS exporter of a connection whose handshake is still under way.
//!
//! TLS 1.3 derives the exporter's secret from the handshake up to the server's Finished (RFC 8446
//! §7.1), so a server has it half a round trip before the client has proven its key. rustls gives
//! exported values only after that, but logs the secret as soon as there is one; from it they are
//! computed here as RFC 8446 §7.5 says. Both ways give the same values.
//!
//! Not here: what may be said before a key is proven (PROTOCOL.md, Transport).

use std::fmt;
use std::sync::{Arc, OnceLock};

use ring::digest::{self, SHA256};
use ring::hkdf::{HKDF_SHA256, Prk};
use rustls::KeyLog;

/// What rustls calls the secret when it logs it.
const LABEL: &str = "EXPORTER_SECRET";

/// Length of the hash of every cipher suite that we offer, SHA-256, and of what is exported.
const HASH_BYTES: usize = 32;

/// Takes the exporter's secret of one handshake.
#[derive(Clone, Default)]
pub(crate) struct EarlyExporter(Arc<OnceLock<[u8; HASH_BYTES]>>);

impl EarlyExporter {
    /// Whether the secret is there: the server's Finished was made.
    pub(crate) fn is_ready(&self) -> bool {
        self.0.get().is_some()
    }

    /// 32 bytes for `label` and `context`, once [ready](Self::is_ready).
    pub(crate) fn export(&self, label: &[u8], context: &[u8]) -> Option<[u8; HASH_BYTES]> {
        let secret = self.0.get()?;
        let derived = expand_label(secret, label, &[])?;
        expand_label(&derived, b"exporter", context)
    }
}

impl fmt::Debug for EarlyExporter {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyExporter").finish_non_exhaustive()
    }
}

/// rustls asks for this trait where secrets are wanted for debugging; nothing is written anywhere.
#[derive(Debug)]
pub(crate) struct Taker(pub(crate) EarlyExporter);

impl KeyLog for Taker {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        if let (LABEL, Ok(secret)) = (label, secret.try_into()) {
            // A handshake has one.
            let _ = self.0.0.set(secret);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == LABEL
    }
}

/// HKDF-Expand-Label over the hash of `context` (RFC 8446 §7.1).
fn expand_label(secret: &[u8], label: &[u8], context: &[u8]) -> Option<[u8; HASH_BYTES]> {
    const PREFIX: &[u8] = b"tls13 ";
    let hash = digest::digest(&SHA256, context);
    let label_len = u8::try_from(PREFIX.len() + label.len()).ok()?;
    let info: [&[u8]; 6] = [
        &[0, HASH_BYTES as u8],
        &[label_len],
        PREFIX,
        label,
        &[HASH_BYTES as u8],
        hash.as_ref(),
    ];
    let mut out = [0; HASH_BYTES];
    let prk = Prk::new_less_safe(HKDF_SHA256, secret);
    prk.expand(&info, HKDF_SHA256).ok()?.fill(&mut out).ok()?;
    Some(out)
}
