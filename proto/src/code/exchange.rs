//! How a link is passed from who gave a code to who types it, so that nobody in between learns anything.
//!
//! ```text
//!  receiver                                                sharer
//!  Receiving::begin   ── 1. SPAKE2 of side A ──────────►   Giving::begin
//!  Receiving::answer  ◄───────── 2. SPAKE2 of side B ──
//!                     ── 3. proof of the key ──────────►   Giving::seal: right, or one wrong guess
//!  Proven::open       ◄──────── 4. the link, sealed ───
//! ```
//!
//! SPAKE2 (Abdalla and Pointcheval, CT-RSA 2005; in substance RFC 9382) on Ed25519, with the messages and
//! the transcript of the crate `spake2`. It gives both sides one key if they know the same words, and
//! nobody anything to try words on. The receiver proves its key first: who opens a code has to commit to
//! one guess before the sharer says anything that depends on the words being right, so the sharer sees
//! every wrong guess. Who is between the two, a tracker for instance, can play either side with a guess of
//! its own, and learns from each exchange only whether that one was right.
//!
//! The key is bound to the words, both roles and all that both have said (by the transcript), and to the number
//! of the code and the tracker's pin (by derivation), so that what was said in one place is of no use in another. Each
//! step consumes the one before: nothing is answered twice.
//!
//! Not here: who may try how often ([`super::given`], [`super::nameplates`]).

use std::fmt;

use rand_core::{CryptoRng, RngCore};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use subtle::ConstantTimeEq;

use super::Code;
use crate::content::Link;
use crate::id::TrackerPin;
use crate::limits::{CODE_MESSAGE_BYTES, LINK_CHARS};
use crate::wire::Bounded;

/// A message of an exchange, which nobody in between can read.
pub type Body = Bounded<u8, CODE_MESSAGE_BYTES>;

/// Names of both sides in the transcript.
const RECEIVER: &[u8] = b"warren code v1 receiver";
const SHARER: &[u8] = b"warren code v1 sharer";

/// What keys are derived for (BLAKE3 `derive_key`).
const PROOF_CONTEXT: &str = "warren code v1 proof of the receiver";
const SEAL_CONTEXT: &str = "warren code v1 link of the sharer";

/// Why an exchange ends without a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// It is not what the other side says at this point.
    #[error("the other side did not keep to the protocol")]
    Malformed,
    /// The receiver does not know the words, or the two were not at the same tracker and number.
    #[error("the words are wrong")]
    WrongWords,
    /// What should be the sharer's link was made without the words.
    #[error("the answer does not come from who gave the code")]
    NotTheSharer,
}

/// What both sides have in common once each has heard the other.
struct Keys {
    proof: [u8; 32],
    seal: [u8; 32],
}

/// The receiver has spoken.
pub struct Receiving {
    spake: Spake2<Ed25519Group>,
    place: Place,
}

/// The receiver has proven its key.
pub struct Proven(Keys);

/// The sharer has answered.
pub struct Giving(Keys);

/// Where an exchange takes place.
#[derive(Clone, Copy)]
struct Place([u8; 18]);

impl Receiving {
    /// Begins to open a code at the tracker with this pin. `seed` is 32 random bytes that nobody else
    /// knows and that are used for nothing else. Returns message 1.
    pub fn begin(code: &Code, pin: &TrackerPin, seed: [u8; 32]) -> (Receiving, Body) {
        let (password, receiver, sharer) = parties(code);
        let (spake, message) =
            Spake2::start_a_with_rng(&password, &receiver, &sharer, Seeded::new(seed));
        let place = Place::of(code, pin);
        (Receiving { spake, place }, Body::truncated(message))
    }

    /// Takes in message 2; returns message 3.
    ///
    /// # Errors
    /// When it is no such message.
    pub fn answer(self, message: &[u8]) -> Result<(Proven, Body), ExchangeError> {
        let keys = Keys::of(self.spake, message, self.place)?;
        let proof = Body::truncated(keys.proof);
        Ok((Proven(keys), proof))
    }
}

impl Proven {
    /// Takes in message 4.
    ///
    /// # Errors
    /// When it was not sealed by somebody who knows the words, or is no link.
    pub fn open(self, message: &[u8]) -> Result<Link, ExchangeError> {
        let mut sealed = message.to_vec();
        let opened = self
            .0
            .cipher()
            .open_in_place(nonce(), Aad::empty(), &mut sealed);
        let text = opened.map_err(|_| ExchangeError::NotTheSharer)?;
        let text = std::str::from_utf8(text).map_err(|_| ExchangeError::Malformed)?;
        text.trim_end()
            .parse()
            .map_err(|_| ExchangeError::Malformed)
    }
}

impl Giving {
    /// Answers message 1 of somebody who wants to open the code at the tracker with this pin; `seed` as for
    /// [`Receiving::begin`]. Returns message 2.
    ///
    /// # Errors
    /// When it is no such message.
    pub fn begin(
        code: &Code,
        pin: &TrackerPin,
        message: &[u8],
        seed: [u8; 32],
    ) -> Result<(Giving, Body), ExchangeError> {
        let (password, receiver, sharer) = parties(code);
        let (spake, answer) =
            Spake2::start_b_with_rng(&password, &receiver, &sharer, Seeded::new(seed));
        let keys = Keys::of(spake, message, Place::of(code, pin))?;
        Ok((Giving(keys), Body::truncated(answer)))
    }

    /// Takes in message 3, and gives the link to who has proven to know the words. Returns message 4, which
    /// has the same length whatever the link.
    ///
    /// # Errors
    /// [`ExchangeError::WrongWords`] for any other: that was a guess.
    pub fn seal(self, message: &[u8], link: &Link) -> Result<Body, ExchangeError> {
        if !bool::from(self.0.proof.ct_eq(message)) {
            return Err(ExchangeError::WrongWords);
        }
        let mut sealed = format!("{:LINK_CHARS$}", link.to_string()).into_bytes();
        let cipher = self.0.cipher();
        cipher
            .seal_in_place_append_tag(nonce(), Aad::empty(), &mut sealed)
            .expect("a few hundred bytes are no more than the cipher takes");
        Ok(Body::truncated(sealed))
    }
}

impl Keys {
    fn of(
        spake: Spake2<Ed25519Group>,
        message: &[u8],
        place: Place,
    ) -> Result<Keys, ExchangeError> {
        let common = spake
            .finish(message)
            .map_err(|_| ExchangeError::Malformed)?;
        let derive = |context| {
            let mut hasher = blake3::Hasher::new_derive_key(context);
            hasher.update(&place.0).update(&common);
            *hasher.finalize().as_bytes()
        };
        Ok(Keys {
            proof: derive(PROOF_CONTEXT),
            seal: derive(SEAL_CONTEXT),
        })
    }

    /// RFC 8439.
    fn cipher(&self) -> LessSafeKey {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.seal);
        LessSafeKey::new(key.expect("keys of this cipher have 32 bytes"))
    }
}

impl Place {
    /// The tracker's pin, 16 bytes, then the number, 2 bytes, big-endian.
    fn of(code: &Code, pin: &TrackerPin) -> Place {
        let mut place = [0; 18];
        place[..16].copy_from_slice(&pin.0);
        place[16..].copy_from_slice(&code.nameplate.0.to_be_bytes());
        Place(place)
    }
}

/// Each key seals one message.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

fn parties(code: &Code) -> (Password, Identity, Identity) {
    let password = Password::new(code.words.to_string());
    (password, Identity::new(RECEIVER), Identity::new(SHARER))
}

/// Random bytes out of a seed, for a crate that wants to draw them itself.
struct Seeded(blake3::OutputReader);

impl Seeded {
    fn new(seed: [u8; 32]) -> Seeded {
        let mut hasher = blake3::Hasher::new_derive_key("warren code v1 secret scalar");
        hasher.update(&seed);
        Seeded(hasher.finalize_xof())
    }
}

impl RngCore for Seeded {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Seeded {}

/// Nothing of what is secret.
macro_rules! hide {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

hide!(Receiving, Proven, Giving);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::content::samples::any_tracker;
    use crate::id::{ContentId, Kind, Secret};

    const PIN: TrackerPin = TrackerPin([9; 16]);

    #[test]
    fn who_knows_the_words_gets_the_link() {
        assert_eq!(run("7-film-alibi", PIN, "7-film-alibi", PIN), Ok(link()));
    }

    #[test]
    fn who_has_one_word_the_number_or_the_tracker_wrong_gets_nothing() {
        let right = "7-film-alibi";
        for (code, pin) in [
            ("7-film-album", PIN),
            ("7-alibi-film", PIN),
            ("8-film-alibi", PIN),
            (right, TrackerPin([8; 16])),
        ] {
            let wrong = Err(ExchangeError::WrongWords);
            assert_eq!(run(right, PIN, code, pin), wrong, "{code}");
        }
    }

    #[test]
    fn who_plays_the_sharer_with_wrong_words_is_found_out() {
        let (receiving, first) = Receiving::begin(&code("7-film-alibi"), &PIN, [1; 32]);
        let guess = Giving::begin(&code("7-film-album"), &PIN, &first, [2; 32]);
        let (giving, second) = guess.unwrap();
        let (proven, _) = receiving.answer(&second).unwrap();
        // It seals something all the same.
        let proof = giving.0.proof;
        let forged = giving.seal(&proof, &link()).unwrap();
        assert_eq!(proven.open(&forged), Err(ExchangeError::NotTheSharer));
    }

    #[test]
    fn what_one_side_said_is_not_taken_for_what_the_other_says() {
        let (code, pin) = (code("7-film-alibi"), PIN);
        let (receiving, first) = Receiving::begin(&code, &pin, [1; 32]);
        let reflected = receiving.answer(&first).map(drop);
        assert_eq!(reflected, Err(ExchangeError::Malformed));
        let (_, second) = Giving::begin(&code, &pin, &first, [2; 32]).unwrap();
        let reflected = Giving::begin(&code, &pin, &second, [3; 32]).map(drop);
        assert_eq!(reflected, Err(ExchangeError::Malformed));
    }

    #[test]
    fn what_was_said_in_one_exchange_is_of_no_use_in_another() {
        let (code, pin) = (code("7-film-alibi"), PIN);
        let (receiving, first) = Receiving::begin(&code, &pin, [1; 32]);
        let (giving, second) = Giving::begin(&code, &pin, &first, [2; 32]).unwrap();
        let (_, third) = receiving.answer(&second).unwrap();
        let fourth = giving.seal(&third, &link()).unwrap();
        // Everything that an ear in between has heard, said again.
        let (again, _) = Giving::begin(&code, &pin, &first, [3; 32]).unwrap();
        assert_eq!(again.seal(&third, &link()), Err(ExchangeError::WrongWords));
        let (receiving, first) = Receiving::begin(&code, &pin, [4; 32]);
        let (proven, _) = receiving.answer(&second).unwrap();
        assert_eq!(proven.open(&fourth), Err(ExchangeError::NotTheSharer));
        assert!(Giving::begin(&code, &pin, &first, [5; 32]).is_ok());
    }

    #[test]
    fn the_sealed_link_tells_nothing_by_its_length() {
        let (short, mut long) = (link(), link());
        long.secret = Some(Secret([6; 16]));
        assert_eq!(sealed(&short).len(), sealed(&long).len());
        assert_eq!(sealed(&short).len(), LINK_CHARS + 16);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_message_that_was_bent_or_cut_gives_a_link(
            which in 0usize..4, at: prop::sample::Index, bit in 0u8..8, cut: bool
        ) {
            let bend = |number: usize, message: Body| {
                let mut bytes = message.into_vec();
                let at = at.index(bytes.len());
                match number == which {
                    true if cut => bytes.truncate(at),
                    true => bytes[at] ^= 1 << bit,
                    false => (),
                }
                bytes
            };
            prop_assert!(exchange(&bend).is_err());
        }

        #[test]
        fn any_link_fits(tracker in any_tracker(), id: [u8; 32]) {
            let link = Link { id: ContentId(id), tracker, kind: Kind::Tree, secret: Some(Secret([7; 16])) };
            prop_assert_eq!(sealed(&link).len(), LINK_CHARS + 16);
        }

        #[test]
        fn strangers_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let code = code("7-film-alibi");
            let (receiving, first) = Receiving::begin(&code, &PIN, [1; 32]);
            let _ = receiving.answer(&bytes);
            let _ = Giving::begin(&code, &PIN, &bytes, [2; 32]);
            let (giving, _) = Giving::begin(&code, &PIN, &first, [2; 32]).unwrap();
            prop_assert_eq!(giving.seal(&bytes, &link()), Err(ExchangeError::WrongWords));
        }
    }

    /// An exchange in which each message passes through `bend` with its number.
    fn exchange(bend: &dyn Fn(usize, Body) -> Vec<u8>) -> Result<Link, ExchangeError> {
        let code = code("7-film-alibi");
        let (receiving, first) = Receiving::begin(&code, &PIN, [1; 32]);
        let (giving, second) = Giving::begin(&code, &PIN, &bend(0, first), [2; 32])?;
        let (proven, third) = receiving.answer(&bend(1, second))?;
        proven.open(&bend(3, giving.seal(&bend(2, third), &link())?))
    }

    /// What a receiver gets that has typed `typed` at the tracker `reached`.
    fn run(
        given: &str,
        pin: TrackerPin,
        typed: &str,
        reached: TrackerPin,
    ) -> Result<Link, ExchangeError> {
        let (receiving, first) = Receiving::begin(&code(typed), &reached, [1; 32]);
        let (giving, second) = Giving::begin(&code(given), &pin, &first, [2; 32])?;
        let (proven, third) = receiving.answer(&second)?;
        proven.open(&giving.seal(&third, &link())?)
    }

    fn sealed(link: &Link) -> Body {
        let keys = Keys {
            proof: [1; 32],
            seal: [2; 32],
        };
        Giving(keys).seal(&[1; 32], link).unwrap()
    }

    fn code(text: &str) -> Code {
        text.parse().unwrap()
    }

    fn link() -> Link {
        let tracker = format!("203.0.113.7:59000#{PIN}");
        Link {
            kind: Kind::File,
            id: ContentId([5; 32]),
            tracker: tracker.parse().unwrap(),
            secret: None,
        }
    }
}
