use super::*;

fn backoff() -> (Backoff, OwnedServerName, Failing) {
    let name = OwnedServerName::try_from("x.example:8448").unwrap();
    let row = Failing { server: name.to_string(), ..row(1_020_000) };
    (Backoff { known: Arc::default(), own: "b".to_owned() }, name, row)
}

#[test]
fn what_replicas_tell_each_other_is_understood() {
    let (backoff, name, row) = backoff();
    assert_eq!(backoff.hear(&away("a 1", &row)), None);
    assert_eq!(backoff.until(&name, 1_000_001), Some(1_020_000));
    for note in [
        "",
        "away",
        "away a 1 1 2 x.example:8448",
        "away a 1 1 2 3 ",
        "typing 1 2 3",
        "back a 2 ",
        "back a x.example:8448",
        "back ?",
    ] {
        assert_eq!(backoff.hear(note), None, "{note}");
    }
    assert!(backoff.has_failed(&name));
    assert_eq!(backoff.hear(&back("a 2", &name)), Some(name.clone()));
    assert!(!backoff.has_failed(&name));
}

#[test]
fn what_was_found_out_counts_until_it_is_heard() {
    let (backoff, name, row) = backoff();
    backoff.hear(&away("a 1", &row));
    let first = backoff.known.lock().found(&name, None);
    // Another one says the contrary, before or after what was found out is written.
    backoff.hear(&away("a 2", &row));
    assert!(!backoff.has_failed(&name));
    backoff.known.lock().written(&name, first, true);
    backoff.hear(&away("a 3", &row));
    assert!(!backoff.has_failed(&name));
    backoff.hear(&back(&format!("b {first}"), &name));
    assert!(!backoff.has_failed(&name));
    backoff.hear(&away("a 4", &row));
    assert!(backoff.has_failed(&name), "that came after it");

    // The note of an earlier finding ends no later one.
    let first = backoff.known.lock().found(&name, None);
    let second = backoff.known.lock().found(&name, Some(row.clone()));
    backoff.known.lock().written(&name, second, true);
    backoff.hear(&back(&format!("b {first}"), &name));
    assert!(backoff.has_failed(&name));
    backoff.hear(&away(&format!("b {second}"), &row));
    assert!(backoff.has_failed(&name));
    assert!(backoff.known.lock().findings.is_empty());
}

#[test]
fn what_could_not_be_written_waits_for_better_news() {
    let (backoff, name, row) = backoff();
    let number = backoff.known.lock().found(&name, Some(row.clone()));
    backoff.known.lock().refused(&name, number);
    assert!(backoff.has_failed(&name));
    assert_eq!(backoff.hear(&back("a 1", &name)), Some(name.clone()));
    assert!(!backoff.has_failed(&name));
    // Alone nobody tells it back.
    let number = backoff.known.lock().found(&name, Some(row));
    backoff.known.lock().written(&name, number, false);
    assert!(backoff.has_failed(&name));
    assert!(backoff.known.lock().findings.is_empty());
}

#[test]
fn what_the_table_says_counts_where_nothing_newer_was_found() {
    let backoff = backoff().0;
    let names = ["a", "b", "c", "d"].map(|name| OwnedServerName::try_from(name).unwrap());
    let [back_since, away_since, back_elsewhere, told] = &names;
    let table = |names: &[&OwnedServerName]| -> HashMap<OwnedServerName, Failing> {
        names.iter().map(|name| ((*name).clone(), row(1))).collect()
    };
    let mut known = backoff.known.lock();
    known.table = table(&[back_since, back_elsewhere]);
    known.found(back_since, None);
    known.found(away_since, Some(row(1)));
    let number = known.found(told, Some(row(1)));
    known.written(told, number, true);
    let written = known.all_written();
    assert_eq!(written, [(told.clone(), number)]);
    let back = known.take(table(&[back_since]), &written);
    assert_eq!(back, [back_elsewhere.clone(), told.clone()]);
    let away = names.iter().filter(|name| known.get(name).is_some());
    assert!(away.eq([away_since]));
}

fn row(retry_ts: i64) -> Failing {
    Failing { server: "x.example".to_owned(), since_ts: 1_000_000, retry_ts, interval_ms: 20_000 }
}

#[test]
fn a_server_is_asked_again_after_half_of_the_time_that_it_was_away() {
    const MINUTE: i64 = 60_000;
    let pauses = [0, MINUTE, 10 * MINUTE, 24 * 60 * MINUTE, 10 * 24 * 60 * MINUTE].map(pause);
    assert_eq!(pauses, [FIRST, MINUTE / 2, 5 * MINUTE, 12 * 60 * MINUTE, LONGEST]);
}

#[test]
fn a_clock_that_was_put_back_leaves_nobody_alone_for_longer() {
    assert!(is_left_alone(&row(1_020_000), 1_000_001));
    assert!(is_left_alone(&row(1_024_980), 1_000_001), "times are spread by a quarter");
    assert!(!is_left_alone(&row(1_020_000), 1_020_000));
    assert!(!is_left_alone(&row(1_020_000), 400_000), "the clock went back by ten minutes");
}
