//! What was compared: a generator that makes no conflicts would let everything pass.

use crate::graph::{Graph, State};
use crate::{Judgement, Verdict};
use myelin_core::events::pdu::Pdu;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Counts over all graphs.
#[derive(Default)]
pub struct Figures {
    /// By room version, for graphs and for resolutions.
    versions: BTreeMap<u32, Version>,
    /// Resolutions of which something holds.
    kinds: BTreeMap<&'static str, usize>,
    verdicts: BTreeMap<Verdict, usize>,
    /// Events that were tried, and that were allowed.
    tries: (usize, usize),
    judged: BTreeMap<Verdict, usize>,
    ours: Duration,
    theirs: f64,
}

#[derive(Default)]
struct Version {
    graphs: usize,
    with_conflicts: usize,
    resolutions: usize,
    conflicts: usize,
    conflicted_events: usize,
    events: usize,
}

impl Figures {
    /// Counts a resolution.
    pub fn resolution(&mut self, graph: &Graph, states: &[State], ours: &State, verdict: Verdict) {
        *self.verdicts.entry(verdict).or_default() += 1;
        let conflicts = Graph::conflicts(states);
        let version = self.versions.entry(graph.version.as_str().parse().unwrap()).or_default();
        version.resolutions += 1;
        if conflicts.is_empty() {
            return;
        }
        version.conflicts += 1;
        version.conflicted_events += conflicts.values().map(BTreeSet::len).sum::<usize>();
        for kind in kinds(graph, states, ours) {
            *self.kinds.entry(kind).or_default() += 1;
        }
    }

    /// Counts a graph.
    pub fn graph(&mut self, graph: &Graph, took: Duration, judgement: &Judgement) {
        self.ours += took;
        self.theirs += judgement.seconds;
        self.tries.0 += judgement.tries.len();
        self.tries.1 += graph.tries.iter().filter(|one| one.allowed).count();
        for verdict in &judgement.tries {
            *self.judged.entry(*verdict).or_default() += 1;
        }
        let version = self.versions.entry(graph.version.as_str().parse().unwrap()).or_default();
        version.graphs += 1;
        version.events += graph.json.len();
        let has = graph.resolutions.iter().any(|states| !Graph::conflicts(states).is_empty());
        version.with_conflicts += usize::from(has);
    }

    fn conflicts(&self) -> usize {
        self.versions.values().map(|version| version.conflicts).sum()
    }

    /// Fails if anything differs that no known departure explains, or if the graphs were not worth comparing.
    pub fn check(&self) {
        let of = |verdicts: &BTreeMap<Verdict, usize>, one| verdicts.get(&one).copied().unwrap_or_default();
        let different = of(&self.verdicts, Verdict::Different) + of(&self.judged, Verdict::Different);
        assert_eq!(different, 0, "Myelin and Synapse differ: the first graph is above");
        let resolutions: usize = self.verdicts.values().sum();
        let same = of(&self.verdicts, Verdict::Same);
        assert!(same * 100 >= resolutions * 95, "only {same} of {resolutions} resolutions are the same");
        for (number, version) in &self.versions {
            let (found, all) = (version.with_conflicts, version.graphs);
            assert!(found * 100 >= all * 90, "version {number}: only {found} of {all} graphs have conflicts");
        }
        let conflicts = self.conflicts();
        for (kind, least) in WANTED {
            let found = self.kinds.get(kind).copied().unwrap_or_default();
            assert!(
                found * 1000 >= conflicts * least,
                "{kind}: {found} of {conflicts}, wanted {least} of 1,000"
            );
        }
    }
}

/// Of 1,000 resolutions with conflicts, how many are at least to have this.
const WANTED: [(&str, usize); 10] = [
    ("power levels against power levels", 400),
    ("join rules against join rules", 250),
    ("ban against join", 100),
    ("kick against join", 80),
    ("ban against invite", 20),
    ("restricted join", 250),
    ("equal timestamps", 400),
    ("with a rejected event", 5),
    ("a key is lost", 80),
    ("as in none of the states", 500),
];

/// What holds of a resolution.
fn kinds(graph: &Graph, states: &[State], ours: &State) -> BTreeSet<&'static str> {
    let mut kinds = BTreeSet::new();
    let conflicts = Graph::conflicts(states);
    let mut times = BTreeSet::new();
    for ((kind, _), ids) in &conflicts {
        let events: Vec<_> = ids.iter().map(|id| graph.event(id)).collect();
        if !events.iter().all(|event| times.insert(event.origin_server_ts)) {
            kinds.insert("equal timestamps");
        }
        let memberships: BTreeSet<_> = events.iter().filter_map(|event| event.membership()).collect();
        let has = |membership: &str| memberships.contains(membership);
        let is_kick = |event: &Pdu| {
            let by_another = event.state_key.as_deref() != Some(event.sender.as_str());
            event.membership().as_deref() == Some("leave") && by_another
        };
        match kind.as_str() {
            "m.room.power_levels" if events.len() > 1 => {
                _ = kinds.insert("power levels against power levels")
            }
            "m.room.join_rules" if events.len() > 1 => _ = kinds.insert("join rules against join rules"),
            "m.room.member" if has("ban") && has("join") => _ = kinds.insert("ban against join"),
            "m.room.member" if has("invite") && has("ban") => _ = kinds.insert("ban against invite"),
            "m.room.member" if has("join") && events.iter().any(|event| is_kick(event)) => {
                kinds.insert("kick against join");
            }
            _ => {}
        }
        if events.iter().any(|event| event.content.get().contains("join_authorised_via_users_server")) {
            kinds.insert("restricted join");
        }
    }
    if conflicts.keys().any(|key| !ours.contains_key(*key)) {
        kinds.insert("a key is lost");
    }
    if !states.contains(ours) {
        kinds.insert("as in none of the states");
    }
    if ours.keys().any(|key| !states.iter().any(|state| state.contains_key(key))) {
        kinds.insert("a key comes from the auth chains");
    }
    if graph.rejected.is_some() {
        kinds.insert("with a rejected event");
    }
    kinds
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.conflicts();
        writeln!(
            f,
            "version  graphs  with conflicts  events a graph  resolutions  conflicting  conflicted events"
        )?;
        for (number, version) in &self.versions {
            let a = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
            writeln!(
                f,
                "{number:7} {:7} {:15} {:15.1} {:12} {:12} {:18.1}",
                version.graphs,
                version.with_conflicts,
                a(version.events, version.graphs),
                version.resolutions,
                version.conflicts,
                a(version.conflicted_events, version.conflicts),
            )?;
        }
        for (kind, found) in &self.kinds {
            writeln!(f, "{found:7}  {:5.1} %  {kind}", 100.0 * *found as f64 / all as f64)?;
        }
        writeln!(
            f,
            "{all} conflicts resolved, Myelin {:.1} s, Synapse {:.1} s",
            self.ours.as_secs_f64(),
            self.theirs
        )?;
        for (verdict, found) in &self.verdicts {
            writeln!(f, "{found:7}  {verdict:?}")?;
        }
        writeln!(f, "{} events were tried, {} allowed", self.tries.0, self.tries.1)?;
        for (verdict, found) in &self.judged {
            writeln!(f, "{found:7}  {verdict:?}")?;
        }
        Ok(())
    }
}
