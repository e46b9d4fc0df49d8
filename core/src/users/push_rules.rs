//! A user's push rules: the predefined ones with what the user changed, kept as account data.

use super::account_data::{self, GLOBAL};
use crate::error::{Error, Result};
use crate::push::rules::rules_of;
use crate::server::Server;
use ruma::UserId;
use ruma::push::{Action, InsertPushRuleError, NewPushRule, RemovePushRuleError, RuleKind, Ruleset};
use serde::{Deserialize, Serialize};

/// The type of the account data.
pub const TYPE: &str = "m.push_rules";

#[derive(Serialize, Deserialize)]
struct Content {
    global: Ruleset,
}

/// A change of the rules.
#[derive(Debug)]
pub enum Change {
    /// A rule of the user's own, before or after another one.
    Put {
        /// The rule.
        rule: NewPushRule,
        /// The rule that comes before it.
        after: Option<String>,
        /// The rule that comes after it.
        before: Option<String>,
    },
    /// A rule of the user's own goes.
    Remove(RuleKind, String),
    /// A rule is switched on or off.
    Enable(RuleKind, String, bool),
    /// A rule does something else.
    Act(RuleKind, String, Vec<Action>),
}

/// The rules that hold for a user.
pub async fn get(server: &Server, user_pk: i64, user: &UserId) -> Result<Ruleset> {
    Ok(parse(user, account_data::find(server, user_pk, GLOBAL, TYPE).await?))
}

/// The rules that hold, from the stored account data.
pub fn parse(user: &UserId, stored: Option<String>) -> Ruleset {
    let stored = stored.and_then(|text| match serde_json::from_str::<Content>(&text) {
        Ok(content) => Some(content.global),
        Err(error) => {
            tracing::warn!(%error, "stored push rules cannot be read; the predefined ones hold");
            None
        }
    });
    rules_of(user, stored)
}

/// Changes a user's rules.
pub async fn change(server: &Server, user_pk: i64, user: &UserId, change: Change) -> Result<()> {
    let user = user.to_owned();
    server
        .commit
        .run(move |tx| {
            Box::pin(async move {
                let stored = myelin_storage::users::account_data::get(tx, user_pk, GLOBAL, TYPE).await?;
                let mut rules = parse(&user, stored);
                apply(&mut rules, change)?;
                let content =
                    serde_json::to_string(&Content { global: rules }).map_err(Error::internal_display)?;
                let content = Some(content.as_str());
                Ok(myelin_storage::users::account_data::put(tx, user_pk, GLOBAL, TYPE, content).await?)
            })
        })
        .await
}

/// Most rules of one user, so that evaluating them stays cheap.
const MOST: usize = 1_000;

fn apply(rules: &mut Ruleset, change: Change) -> Result<()> {
    let not_found = |_| Error::not_found("there is no such push rule");
    match change {
        Change::Put { rule, after, before } => {
            if rules.iter().count() >= MOST {
                return Err(Error::TooLarge(format!("there are {MOST} push rules already")));
            }
            rules.insert(rule, after.as_deref(), before.as_deref()).map_err(|error| match error {
                InsertPushRuleError::UnknownRuleId => Error::not_found(error.to_string()),
                _ => Error::invalid_param(error.to_string()),
            })
        }
        Change::Remove(kind, id) => rules.remove(kind, id).map_err(|error| match error {
            RemovePushRuleError::NotFound => Error::not_found(error.to_string()),
            _ => Error::invalid_param(error.to_string()),
        }),
        Change::Enable(kind, id, enabled) => rules.set_enabled(kind, id, enabled).map_err(not_found),
        Change::Act(kind, id, actions) => rules.set_actions(kind, id, actions).map_err(not_found),
    }
}
