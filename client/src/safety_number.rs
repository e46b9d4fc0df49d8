//! The safety number of two people: sixty digits that are the same on both sides exactly if both
//! see the same two identities.
//!
//! Each person's half is 30 digits from a hash of the user id and the master cross-signing key,
//! repeated so that keys with a similar number are costly to find. The halves are put in order, so
//! that both people see one number. The number changes when somebody's cross-signing is reset.

use sha2::{Digest, Sha512};

/// About 2^12: three digits' worth of work more for somebody who tries keys.
const ROUNDS: usize = 5200;

/// Twelve groups of five digits.
pub fn safety_number(one: (&str, &[u8]), other: (&str, &[u8])) -> String {
    let mut halves = [half(one.0, one.1), half(other.0, other.1)];
    halves.sort();
    halves.concat().join(" ")
}

/// A safety number in three lines of four groups.
pub fn in_lines(number: &str) -> String {
    let groups: Vec<_> = number.split(' ').collect();
    groups.chunks(4).map(|line| line.join(" ")).collect::<Vec<_>>().join("\n")
}

fn half(user: &str, master_key: &[u8]) -> Vec<String> {
    let mut hash = Sha512::new().chain_update(b"myelin safety number 1\0").finalize();
    for _ in 0..ROUNDS {
        hash = Sha512::new()
            .chain_update(hash)
            .chain_update(master_key)
            // The length keeps key and name apart.
            .chain_update((user.len() as u64).to_be_bytes())
            .chain_update(user)
            .finalize();
    }
    hash.chunks_exact(5).take(6).map(group).collect()
}

/// Five digits from five bytes: so many that each number is as likely as any other.
fn group(bytes: &[u8]) -> String {
    let number = bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    format!("{:05}", number % 100_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: (&str, &[u8]) = ("@alice:example.org", &[1; 32]);
    const BOB: (&str, &[u8]) = ("@bob:example.org", &[2; 32]);

    #[test]
    fn both_sides_see_the_same_twelve_groups() {
        let number = safety_number(ALICE, BOB);
        assert_eq!(number, safety_number(BOB, ALICE));
        let groups: Vec<_> = number.split(' ').collect();
        assert_eq!(groups.len(), 12);
        assert!(groups.iter().all(|group| group.len() == 5 && group.bytes().all(|b| b.is_ascii_digit())));
        assert_eq!(in_lines(&number).lines().count(), 3);
    }

    #[test]
    fn another_key_or_name_is_another_number() {
        let number = safety_number(ALICE, BOB);
        assert_ne!(number, safety_number(ALICE, (BOB.0, &[3; 32])));
        assert_ne!(number, safety_number(ALICE, ("@bob:example.com", BOB.1)));
    }

    #[test]
    fn the_number_is_the_same_in_every_version() {
        let number = safety_number(ALICE, BOB);
        assert_eq!(number, "04933 00766 01981 61063 57611 93793 31466 54645 33720 53636 43777 42065");
    }
}
