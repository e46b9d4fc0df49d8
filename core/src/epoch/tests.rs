use super::*;
use proptest::prelude::*;

fn known() -> Vec<Epoch> {
    let epoch = |number, pos| Epoch { number, pos, ts: 0, reason: String::new() };
    vec![epoch(22, 1_000), epoch(11, 0)]
}

fn witness(epoch: i64, pos: i64, closed: bool, boot: &str) -> Outside {
    let record = Record { epoch, pos, closed, boot: boot.to_owned() };
    Outside::Witness(Some(record), "this boot".to_owned())
}

fn doubted(outside: &Outside, head: i64) -> bool {
    judge(outside, Some("witness"), head, &known()).is_some()
}

#[test]
fn a_witness_is_believed_when_it_is_not_ahead() {
    assert!(!doubted(&witness(22, 1_200, false, "this boot"), 1_200), "a process was killed");
    assert!(!doubted(&witness(22, 1_199, false, "this boot"), 1_200), "between commit and witness");
    assert!(!doubted(&witness(22, 1_200, true, "another boot"), 1_200), "closed in order");
    assert!(!doubted(&witness(11, 900, true, "another boot"), 1_200), "between a new epoch and its witness");
}

#[test]
fn a_database_older_than_its_witness_is_noticed() {
    assert!(doubted(&witness(22, 1_201, true, "this boot"), 1_200));
    assert!(doubted(&witness(22, 1_201, false, "this boot"), 1_200));
    assert!(doubted(&witness(33, 1_100, true, "this boot"), 1_200), "an epoch that was lost");
    assert!(doubted(&witness(22, 1_200, false, "another boot"), 1_200), "the machine stopped");
    assert!(doubted(&Outside::Witness(None, "this boot".to_owned()), 1_200), "missing");
    let record = Record { epoch: 22, pos: 1_200, closed: false, boot: String::new() };
    assert!(doubted(&Outside::Witness(Some(record), String::new()), 1_200), "nobody knows which boot");
}

#[test]
fn what_was_never_recognized_is_not_doubted() {
    assert!(judge(&Outside::Witness(None, String::new()), None, 5, &known()).is_none());
    assert!(judge(&Outside::Identity(Some("1/2/3/4".to_owned())), None, 5, &known()).is_none());
}

#[test]
fn another_postgresql_is_noticed() {
    let found = |text: &str| Outside::Identity(Some(text.to_owned()));
    assert!(judge(&found("7/00000001/5/9"), Some("7/00000001/5/9"), 5, &known()).is_none());
    for other in ["8/00000001/5/9", "7/00000002/5/9", "7/00000001/6/9", "7/00000001/5/10"] {
        assert!(judge(&found(other), Some("7/00000001/5/9"), 5, &known()).is_some(), "{other}");
    }
    assert!(judge(&Outside::Identity(None), Some("7/00000001/5/9"), 5, &known()).is_none());
}

proptest! {
    /// Whatever the clock says, the head moves forward, and not beyond what numbers can be made of.
    #[test]
    fn the_head_moves_far_forward(reached in 0..LAST - FAR, now_ms in any::<i64>()) {
        let head = next_head(reached, now_ms).unwrap();
        prop_assert!(head >= reached + FAR && head <= LAST);
    }

    /// Two epochs that begin on the same backup share no position, with up to 262,144 positions a second in between.
    #[test]
    fn epochs_on_one_backup_do_not_meet(
        head in 0..1_i64 << 40,
        began in 1_790_000_000_000..4_000_000_000_000_i64,
        seconds in 1..100_000_000_i64,
    ) {
        let first = next_head(head, began).unwrap();
        let second = next_head(head, began + seconds * 1_000).unwrap();
        prop_assert!(second >= first + seconds * POSITIONS_A_SECOND);
    }
}

#[test]
fn positions_can_be_used_up() {
    assert!(next_head(LAST, 0).is_err());
}
