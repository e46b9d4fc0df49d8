//! Tokens of /sync: `s<epoch>_<position>_<typing>_<to-device>`.
//!
//! The position is the log's. Typing has numbers of its own, since it lives in memory. To-device messages may come in
//! several answers at one position; their part says which of them this client has.

use crate::error::{Error, Result};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::timeline::Point;

    #[test]
    fn tokens_go_round() {
        let token = Token { epoch: 1, pos: 25, typing: 300, to_device: 20 };
        assert_eq!(token.to_string(), "s1_25_300_20");
        assert_eq!(Token::parse("s1_25_300_20").unwrap(), token);
        assert_eq!(Point::parse(&token.to_string()).unwrap(), Point(25), "/messages takes them too");
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for wrong in ["", "s", "s1", "s1_2_3", "s1_2_3_4_5", "s1_-2_3_4", "s1_+2_3_4", "t4", "s1_2_x_4", "é"]
        {
            assert!(Token::parse(wrong).is_err(), "{wrong}");
        }
    }
}
