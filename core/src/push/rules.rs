//! Push rules: what an event means to a user.
//!
//! Unread counts are computed when somebody reads, so nothing here runs while an event is sent to
//! people who are not there. An event is flattened once ([`flatten`]) and then held against the rules
//! of as many users as needed.

use futures_util::FutureExt as _;
use ruma::push::{Action, FlattenedJson, PushConditionPowerLevelsCtx, PushConditionRoomCtx, Ruleset};
use ruma::serde::Raw;
use ruma::{RoomId, UInt, UserId};

use crate::events::Pdu;
use crate::events::client_format::{Shape, Unsigned, client_event};

/// What the rules make of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// It counts as unread and may be pushed.
    pub notify: bool,
    /// It concerns the user in person.
    pub highlight: bool,
}

/// The rules of a user: their own, with what the specification predefines. `stored` may come from a
/// version of the server that knew other predefined rules; what the user changed in them is kept.
pub fn rules_of(user: &UserId, stored: Option<Ruleset>) -> Ruleset {
    let predefined = Ruleset::server_default(user);
    match stored {
        None => predefined,
        Some(mut rules) => {
            rules.update_with_server_default(predefined);
            rules
        }
    }
}

/// An event in the form that conditions look at.
pub fn flatten(pdu: &Pdu) -> Result<FlattenedJson, serde_json::Error> {
    let event = client_event(pdu, Shape::Full, &Unsigned::default())?;
    Ok(FlattenedJson::from_raw(&Raw::<()>::from_json(event)))
}

/// What conditions know about a room and a user in it. For the levels see
/// [`Powers::to_notify`](crate::rooms::authorize::Powers::to_notify).
pub fn context(
    room: &RoomId,
    members: u64,
    user: &UserId,
    display_name: Option<&str>,
    levels: Option<PushConditionPowerLevelsCtx>,
) -> PushConditionRoomCtx {
    let name = display_name.unwrap_or(user.localpart()).to_owned();
    let mut context =
        PushConditionRoomCtx::new(room.to_owned(), UInt::new_saturating(members), user.to_owned(), name);
    context.power_levels = levels;
    context
}

/// The actions of the first rule that applies; none for the user's own events.
pub fn actions<'a>(
    rules: &'a Ruleset,
    event: &FlattenedJson,
    context: &PushConditionRoomCtx,
) -> &'a [Action] {
    if event.get_str("sender").is_some_and(|sender| sender == context.user_id) {
        return &[];
    }
    // ruma's conditions are futures for the sake of one that we don't have; the others never wait.
    let applies =
        |rule: &ruma::push::AnyPushRuleRef<'_>| rule.applies(event, context).now_or_never() == Some(true);
    rules.iter().find(applies).map_or(&[], |rule| rule.actions())
}

/// What an event means to a user.
pub fn evaluate(rules: &Ruleset, event: &FlattenedJson, context: &PushConditionRoomCtx) -> Outcome {
    let actions = actions(rules, event, context);
    let notify = actions.iter().any(Action::should_notify);
    Outcome { notify, highlight: notify && actions.iter().any(Action::is_highlight) }
}

#[cfg(test)]
mod tests;
