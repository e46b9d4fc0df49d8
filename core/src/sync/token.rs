//! Tokens of /sync: `s<epoch>_<position>_<typing>_<to-device>.<seal>`.
//!
//! The position is the log's. Typing has numbers of its own, since it lives in memory. To-device messages may come in
//! several answers at one position; their part says which of them this client has. The seal tells a token that this
//! server gave out from one that was made up; it is looked at only where a token says what cannot be ([`crate::epoch`]).

use crate::error::{Error, Result};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::fmt;

/// What a client has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The database's epoch: positions of another one mean nothing.
    pub epoch: i64,
    /// Everything up to this position of the log.
    pub pos: i64,
    /// The changes of typing up to this number.
    pub typing: i64,
    /// To-device messages up to this position.
    pub to_device: i64,
}

impl Token {
    /// Reads a token. M_INVALID_PARAM when it is not one of this server's.
    pub fn parse(text: &str) -> Result<Token> {
        let wrong = || Error::invalid_param("since is not a token of this server's /sync");
        let text = text.split_once('.').map_or(text, |(token, _)| token);
        let mut numbers = text.strip_prefix('s').ok_or_else(wrong)?.split('_').map(|part| {
            part.parse::<i64>().ok().filter(|number| *number >= 0 && !part.starts_with('+')).ok_or_else(wrong)
        });
        let mut next = || numbers.next().unwrap_or_else(|| Err(wrong()));
        let token = Token { epoch: next()?, pos: next()?, typing: next()?, to_device: next()? };
        if numbers.next().is_some() { Err(wrong()) } else { Ok(token) }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}_{}_{}_{}", self.epoch, self.pos, self.typing, self.to_device)
    }
}

/// Makes the seals of tokens.
pub struct Seal {
    key: String,
}

impl Seal {
    /// From the database's secret.
    pub fn new(key: &str) -> Seal {
        Seal { key: key.to_owned() }
    }

    /// A token with its seal.
    pub fn sealed(&self, token: &Token) -> String {
        let text = token.to_string();
        let seal = self.of(&text);
        format!("{text}.{seal:016x}")
    }

    /// Whether this server made a token.
    pub fn is_ours(&self, text: &str) -> bool {
        text.split_once('.').is_some_and(|(token, seal)| seal == format!("{:016x}", self.of(token)))
    }

    /// The first bytes of an HMAC. Who guesses one makes clients fetch everything again, and no more.
    fn of(&self, token: &str) -> u64 {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.key.as_bytes()) else { return 0 };
        mac.update(token.as_bytes());
        mac.finalize().into_bytes().iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::timeline::Point;

    #[test]
    fn tokens_go_round() {
        let token = Token { epoch: 1, pos: 25, typing: 300, to_device: 20 };
        assert_eq!(token.to_string(), "s1_25_300_20");
        assert_eq!(Token::parse("s1_25_300_20").unwrap(), token);
        assert_eq!(Point::parse(&token.to_string()).unwrap(), Point::at(25), "/messages takes them too");
    }

    #[test]
    fn seals_tell_our_tokens_from_others() {
        let token = Token { epoch: 1, pos: 25, typing: 300, to_device: 20 };
        let seal = Seal::new("secret");
        let text = seal.sealed(&token);
        assert_eq!(Token::parse(&text).unwrap(), token);
        assert_eq!(Point::parse(&text).unwrap(), Point::at(25));
        assert!(seal.is_ours(&text) && !Seal::new("another").is_ours(&text));
        assert!(!seal.is_ours(&text.replace("_25_", "_26_")) && !seal.is_ours(&token.to_string()));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for wrong in ["", "s", "s1", "s1_2_3", "s1_2_3_4_5", "s1_-2_3_4", "s1_+2_3_4", "t4", "s1_2_x_4", "é"]
        {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }
}
