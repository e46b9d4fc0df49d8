//! State resolution beside Synapse's, on random rooms; docs/state-resolution.md says how to run it and what differs.

// Clippy's exception for tests covers functions marked as tests, not what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod figures;
mod generate;
mod graph;
mod synapse;

use figures::Figures;
use generate::Recipe;
use graph::{Graph, State};
use myelin_core::rooms::version::SUPPORTED;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Instant;
use synapse::{Answer, DEPARTURES, Resolved, Synapse};

/// How what we resolve compares to what Synapse does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// They are the same.
    Same,
    /// They are the same once Synapse does without this departure from the specification.
    Departure(&'static str),
    /// They are the same once Synapse does without all of its departures.
    Departures,
    /// They differ.
    Different,
}

/// What is said about a graph.
struct Judgement {
    resolutions: Vec<Verdict>,
    tries: Vec<Verdict>,
    seconds: f64,
}

impl Judgement {
    fn worst(&self) -> Verdict {
        self.resolutions.iter().chain(&self.tries).copied().max().unwrap_or(Verdict::Same)
    }
}

fn judge(graph: &Graph, ours: &[State], synapse: &mut Synapse) -> Judgement {
    let ids = |state: &State| {
        let mut ids: Vec<String> = state.values().map(ToString::to_string).collect();
        ids.sort();
        Resolved::Events(ids)
    };
    let resolved: Vec<Resolved> = ours.iter().map(ids).collect();
    let allowed: Vec<bool> = graph.tries.iter().map(|one| one.allowed).collect();
    let Answer { resolved: [theirs], allowed: [allow], seconds } = synapse.resolve(graph, [&[]]);
    if theirs == resolved && allow == allowed {
        let same = |length| vec![Verdict::Same; length];
        return Judgement { resolutions: same(resolved.len()), tries: same(allowed.len()), seconds };
    }
    let [a, b, c, d] = DEPARTURES;
    let answer = synapse.resolve(graph, [&[], &[a], &[b], &[c], &[d], &DEPARTURES]);
    let verdict = |way: Option<usize>| match way {
        Some(0) => Verdict::Same,
        Some(way) => DEPARTURES.get(way - 1).map_or(Verdict::Departures, |name| Verdict::Departure(name)),
        None => Verdict::Different,
    };
    let resolution = |at: usize| answer.resolved.iter().position(|theirs| theirs[at] == resolved[at]);
    let one_try = |at: usize| answer.allowed.iter().position(|theirs| theirs[at] == allowed[at]);
    Judgement {
        resolutions: (0..resolved.len()).map(resolution).map(verdict).collect(),
        tries: (0..allowed.len()).map(one_try).map(verdict).collect(),
        seconds,
    }
}

fn ours(graph: &Graph) -> Vec<State> {
    graph.resolutions.iter().map(|states| graph.resolve(states)).collect()
}

/// The smallest recipe with the same verdict that leaving out steps leads to.
fn minimise(mut recipe: Recipe, wanted: Verdict, synapse: &mut Synapse) -> Recipe {
    loop {
        let is_like = |recipe: &Recipe| {
            let graph = recipe.graph();
            judge(&graph, &ours(&graph), synapse).worst() == wanted
        };
        let smaller = recipe.smaller().find(is_like);
        let Some(smaller) = smaller else { return recipe };
        recipe = smaller;
    }
}

/// A graph and what differs, for people.
fn describe(recipe: &Recipe, wanted: Verdict, synapse: &mut Synapse) -> String {
    let graph = recipe.graph();
    let ours = ours(&graph);
    let judgement = judge(&graph, &ours, synapse);
    let number = |id: &str| graph.json.iter().position(|event| event["event_id"] == id).unwrap_or(usize::MAX);
    let numbers = |ids: &mut dyn Iterator<Item = &str>| {
        let mut numbers: Vec<usize> = ids.map(number).collect();
        numbers.sort_unstable();
        format!("{numbers:?}")
    };
    let of_json = |list: &serde_json::Value| {
        numbers(&mut list.as_array().unwrap().iter().map(|id| id.as_str().unwrap()))
    };
    let mut text = format!("{wanted:?}, version {}\n", graph.version);
    for (at, event) in graph.json.iter().enumerate() {
        text += &format!(
            "{at:3} {} {:?} by {} at {} {}\n      auth {} prev {}\n",
            event["type"].as_str().unwrap(),
            event["state_key"].as_str().unwrap(),
            event["sender"].as_str().unwrap(),
            event["origin_server_ts"],
            event["content"],
            of_json(&event["auth_events"]),
            of_json(&event["prev_events"]),
        );
    }
    if let Some(rejected) = &graph.rejected {
        text += &format!("rejected: {}\n", number(rejected.as_str()));
    }
    let is_wanted = |verdicts: &[Verdict]| verdicts.iter().position(|verdict| *verdict == wanted);
    if let Some(at) = is_wanted(&judgement.tries) {
        text += &format!("Myelin: {}, {}\n", graph.tries[at].allowed, json!(graph.tries[at]));
    }
    let Some(at) = is_wanted(&judgement.resolutions) else { return text };
    for state in &graph.resolutions[at] {
        text += &format!("state:   {}\n", numbers(&mut state.values().map(|id| id.as_str())));
    }
    text += &format!("Myelin:  {}\n", numbers(&mut ours[at].values().map(|id| id.as_str())));
    for theirs in synapse.resolve(&graph, [&[], &DEPARTURES]).resolved {
        text += &match &theirs[at] {
            Resolved::Events(ids) => format!("Synapse: {}\n", numbers(&mut ids.iter().map(String::as_str))),
            Resolved::Error(error) => format!("Synapse: {error}\n"),
        };
    }
    text
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
#[ignore = "needs Synapse: tools/state-resolution/run"]
fn resolves_as_synapse_does() {
    let graphs = number("MYELIN_TEST_GRAPHS", 420);
    let seed = number("MYELIN_TEST_SEED", 1);
    let with_departures = number("MYELIN_TEST_DEPARTURES", 0) != 0;
    println!("{graphs} graphs, seed {seed}");
    let mut synapse = Synapse::start();
    let mut figures = Figures::default();
    let mut shown = BTreeSet::new();
    for at in 0..graphs {
        let version = &SUPPORTED[at as usize % SUPPORTED.len()];
        let mut rng = StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(at));
        let recipe = Recipe::random(&mut rng, version.clone());
        let graph = recipe.graph();
        let began = Instant::now();
        let ours = ours(&graph);
        let took = began.elapsed();
        let judgement = judge(&graph, &ours, &mut synapse);
        figures.graph(&graph, took, &judgement);
        for ((states, ours), verdict) in graph.resolutions.iter().zip(&ours).zip(&judgement.resolutions) {
            figures.resolution(&graph, states, ours, *verdict);
        }
        let worst = judgement.worst();
        if (worst == Verdict::Different || with_departures && worst != Verdict::Same) && shown.insert(worst) {
            let small = minimise(recipe, worst, &mut synapse);
            println!("graph {at}: {}", describe(&small, worst, &mut synapse));
        }
    }
    println!("{figures}");
    figures.check();
}
