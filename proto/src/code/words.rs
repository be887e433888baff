//! The words of codes: 512 short English ones, so that two of them are 18 bits.
//!
//! Any two differ in their first [`LETTERS`] letters, which are therefore enough to type, and by at least
//! two typing errors of any kind, so that no single one makes another word of one. The list is our own.

use std::fmt;
use std::str::FromStr;

use super::CodeError;

/// How many words there are.
pub const WORDS: usize = 512;

/// Letters that tell each word from all others.
pub const LETTERS: usize = 3;

/// Typing errors that a word may be away from one that is meant by it.
const FAR: usize = 2;

/// Words that are offered in place of a wrong one.
const OFFERED: usize = 3;

const LIST: &str = include_str!("words.txt");

/// One word of the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Word(&'static str);

/// Both words of a code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Words(pub [Word; 2]);

/// All words, in alphabetical order.
pub fn all() -> impl Iterator<Item = &'static str> {
    LIST.lines()
}

impl Words {
    /// Words for a new code: each pair as likely as the others, if `random` is a number that nobody knows.
    pub fn of(random: u32) -> Words {
        let at = |number: u32| all().nth(number as usize % WORDS).map(Word);
        let pair = [at(random), at(random / WORDS as u32)];
        Words(
            pair.map(|word| word.expect("the list has as many words as it says, which is tested")),
        )
    }
}

impl FromStr for Word {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Word, CodeError> {
        let typed = text.to_lowercase();
        let is_meant =
            |word: &&str| *word == typed || typed.len() >= LETTERS && word.starts_with(&typed);
        all()
            .find(is_meant)
            .map(Word)
            .ok_or_else(|| CodeError::Word {
                word: text.to_owned(),
                nearest: nearest(&typed),
            })
    }
}

/// Words of the list that somebody may have meant who typed this, the nearest first.
fn nearest(typed: &str) -> Vec<&'static str> {
    let far = all().map(|word| (strsim::osa_distance(word, typed), word));
    let mut near: Vec<_> = far.filter(|(errors, _)| *errors <= FAR).collect();
    near.sort();
    let least = near.first().map(|(errors, _)| *errors);
    let near = near
        .into_iter()
        .filter(|(errors, _)| Some(*errors) == least);
    near.map(|(_, word)| word).take(OFFERED).collect()
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second] = self.0;
        write!(f, "{first}-{second}")
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Words(..)")
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Word(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_is_short_distinct_words_in_order_that_no_single_error_confuses() {
        let words: Vec<&str> = all().collect();
        assert_eq!(words.len(), WORDS);
        assert!(words.is_sorted());
        let beginnings: BTreeSet<&str> = words.iter().map(|it| &it[..LETTERS]).collect();
        assert_eq!(beginnings.len(), WORDS);
        for (at, word) in words.iter().enumerate() {
            assert!(word.bytes().all(|it| it.is_ascii_lowercase()), "{word}");
            assert!((4..=8).contains(&word.len()), "{word}");
            let mut later = words[at + 1..].iter();
            let near = later.find(|it| strsim::osa_distance(word, it) < 2);
            assert_eq!(near, None, "{word}");
        }
    }

    #[test]
    fn every_pair_of_words_has_one_number_out_of_2_to_the_18() {
        let words = WORDS as u32;
        let firsts: BTreeSet<_> = (0..words).map(|it| Words::of(it).0[0].0).collect();
        let seconds: BTreeSet<_> = (0..words).map(|it| Words::of(it * words).0[1].0).collect();
        assert_eq!((firsts.len(), seconds.len()), (WORDS, WORDS));
        for number in 0..words {
            let (low, high) = (Words::of(number).0[0], Words::of(number * words).0[1]);
            let both = Words::of(number * words + (words - 1 - number));
            assert_eq!(both.0, [Words::of(words - 1 - number).0[0], high]);
            assert_eq!(Words::of(number * words + number).0, [low, high]);
        }
        let above = Words::of(u32::MAX);
        assert_eq!(above, Words::of(u32::MAX % (WORDS * WORDS) as u32));
    }

    #[test]
    fn a_word_with_one_error_is_offered_as_it_was_meant() {
        for (typed, meant) in [
            ("flim", "film"),
            ("FILLM", "film"),
            ("alibbi", "alibi"),
            ("umpire", "empire"),
        ] {
            match typed.parse::<Word>() {
                Err(CodeError::Word { nearest, .. }) => {
                    assert!(nearest.contains(&meant), "{nearest:?}")
                }
                other => panic!("{typed}: {other:?}"),
            }
        }
        let far = "qqqqqqq".parse::<Word>().unwrap_err();
        assert!(matches!(far, CodeError::Word { nearest, .. } if nearest.is_empty()));
        // Two letters are too few, and those of two words never one.
        assert!("fi".parse::<Word>().is_err());
        assert!("filmalibi".parse::<Word>().is_err());
    }
}
