//! Each target with its seeds, with mutations of them, and with bytes of no form: what libFuzzer does for long and with a
//! look at coverage, the suite does for a moment.

#![allow(clippy::panic, clippy::print_stderr)]

use myelin_fuzz::TARGETS;
use proptest::prelude::*;

/// A place in a seed and what comes to stand there; pieces that JSON is made of come more often than others.
fn edit() -> impl Strategy<Value = (usize, usize, Vec<u8>)> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "{",
            "}",
            "[",
            "]",
            "\"",
            ":",
            ",",
            "null",
            "true",
            "-1",
            "1e9",
            "1.5",
            "9007199254740993",
            "\\u0000",
            "\\ud800",
            "\"a\"",
            "{}",
            "[]",
            "@u:a",
            "$",
            "!",
            "é",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    (any::<prop::sample::Index>(), 0_usize..12, piece)
        .prop_map(|(at, gone, piece)| (at.index(1 << 16), gone, piece))
}

fn edited(seed: &[u8], edits: &[(usize, usize, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (at, gone, piece) in edits {
        let at = at % (bytes.len() + 1);
        let end = (at + gone).min(bytes.len());
        bytes.splice(at..end, piece.iter().copied());
    }
    bytes
}

#[test]
fn targets_take_their_seeds() {
    for target in TARGETS {
        assert!(!target.seeds.is_empty(), "{} has no seeds", target.name);
        for seed in target.seeds {
            (target.run)(seed);
            (0..seed.len()).for_each(|end| (target.run)(&seed[..end]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn targets_take_changed_seeds(edits in prop::collection::vec(edit(), 1..4)) {
        for target in TARGETS {
            for seed in target.seeds {
                let bytes = edited(seed, &edits);
                (target.run)(&bytes);
            }
        }
    }

    #[test]
    fn targets_take_anything(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for target in TARGETS {
            (target.run)(&bytes);
        }
    }
}
