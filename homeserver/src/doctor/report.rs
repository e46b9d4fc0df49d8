//! What the doctor found, for people and for machines.

use std::fmt;

use serde::Serialize;

use super::words;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Ok,
    /// Good to know, and nothing to do.
    Note,
    /// It works, but not for everybody or not for long.
    Warning,
    /// Other servers fail here.
    Wrong,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        })
    }
}

/// What is said of a thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// How it is.
    pub outcome: Outcome,
    /// What was found.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Remark {
    /// It is as it should be.
    pub fn ok(text: impl Into<String>) -> Self {
        Self { outcome: Outcome::Ok, text: text.into(), advice: None }
    }

    /// Good to know.
    pub fn note(text: impl Into<String>) -> Self {
        Self { outcome: Outcome::Note, text: text.into(), advice: None }
    }

    /// Something is not as it should be, and what to do.
    pub fn warning(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warning, text: text.into(), advice: Some(advice.into()) }
    }

    /// Something is wrong, and what to do.
    pub fn wrong(text: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { outcome: Outcome::Wrong, text: text.into(), advice: Some(advice.into()) }
    }

    /// The same with an outcome that is no worse than this.
    pub fn at_most(mut self, outcome: Outcome) -> Self {
        self.outcome = self.outcome.min(outcome);
        self
    }
}

/// A remark, and the step that led to it.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub step: &'static str,
    /// What is said of it.
    #[serde(flatten)]
    pub remark: Remark,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Remark { outcome, text, advice } = &self.remark;
        write!(f, "{outcome:<8} {:<12} {text}", self.step)?;
        match advice {
            Some(advice) => write!(f, "\n{:21} -> {advice}", ""),
            None => Ok(()),
        }
    }
}

/// Everything that was found, told as it comes: some steps take seconds.
pub struct Report {
    findings: Vec<Finding>,
    tell: Box<dyn FnMut(&Finding) + Send>,
}

impl Report {
    /// An empty one, which tells each finding.
    pub fn new(tell: impl FnMut(&Finding) + Send + 'static) -> Self {
        Self { findings: Vec::new(), tell: Box::new(tell) }
    }

    /// Adds a remark. Much of it was written by others, and terminals obey control characters.
    pub fn add(&mut self, step: &'static str, mut remark: Remark) {
        remark.text = words::clean(&remark.text);
        remark.advice = remark.advice.as_deref().map(words::clean);
        let finding = Finding { step, remark };
        (self.tell)(&finding);
        self.findings.push(finding);
    }

    /// What was found.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The worst that was found.
    pub fn outcome(&self) -> Outcome {
        self.findings.iter().map(|finding| finding.remark.outcome).max().unwrap_or(Outcome::Ok)
    }

    /// Whether there is nothing to do.
    pub fn is_well(&self) -> bool {
        self.outcome() < Outcome::Warning
    }

    /// All of it in one sentence.
    pub fn summary(&self, name: &str) -> String {
        let count =
            |outcome| self.findings.iter().filter(|finding| finding.remark.outcome == outcome).count();
        let name = words::foreign(name);
        match (count(Outcome::Wrong), count(Outcome::Warning)) {
            (0, 0) => format!("All is well with {name}."),
            (0, warnings) => format!("{name} works; {} to look after.", words::things(warnings)),
            (wrong, 0) => format!("{} wrong with {name}.", words::things_are(wrong)),
            (wrong, warnings) => {
                let wrong = words::things_are(wrong);
                format!("{wrong} wrong with {name}, and {} to look after.", words::things(warnings))
            }
        }
    }

    /// The whole report for machines.
    pub fn to_json(&self, name: &str) -> serde_json::Value {
        serde_json::json!({ "server": name, "well": self.is_well(), "findings": self.findings })
    }
}
