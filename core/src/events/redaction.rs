//! Redaction: what stays of an event, and who may ask for it.

use ruma::UserId;
use ruma::canonical_json::{self, CanonicalJsonFieldError, CanonicalJsonObject};
use ruma::room_version_rules::RoomVersionRules;

use super::canonical;
use super::pdu::{Pdu, PduError};

/// Why an event can't be redacted.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    /// A field that decides what stays has the wrong type.
    #[error(transparent)]
    Field(#[from] CanonicalJsonFieldError),
    /// The event, or what stays of it, is no event.
    #[error(transparent)]
    Pdu(#[from] PduError),
}

/// Strips an event to what its room version keeps.
pub fn redact_object(
    event: &mut CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<(), CanonicalJsonFieldError> {
    canonical_json::redact_in_place(event, &rules.redaction, None)
}

/// The redacted form of an event. What we know about it stays.
pub fn redacted(pdu: &Pdu, rules: &RoomVersionRules) -> Result<Pdu, RedactError> {
    let mut object = canonical::parse(&pdu.json()).map_err(PduError::from)?;
    redact_object(&mut object, rules)?;
    let json = canonical::to_string(&object).map_err(PduError::from)?;
    let mut stripped = Pdu::parse(pdu.event_id.clone(), rules, &json)?;
    stripped.pk = pdu.pk;
    stripped.rejected = pdu.rejected;
    stripped.soft_failed = pdu.soft_failed;
    stripped.state_root = pdu.state_root;
    Ok(stripped)
}

/// Does a redaction that is in the room take effect on its target? Either its sender has the power to
/// redact, or both senders are of one server, which then vouches for it. Otherwise the redaction
/// stays in the room without effect.
pub fn takes_effect(sender: &UserId, target_sender: &UserId, has_redact_power: bool) -> bool {
    has_redact_power || sender.server_name() == target_sender.server_name()
}

/// May this user of ours send a redaction of that event? Of their own, or with the power to redact.
pub fn may_send(sender: &UserId, target_sender: &UserId, has_redact_power: bool) -> bool {
    has_redact_power || sender == target_sender
}

#[cfg(test)]
mod tests {
    use ruma::{RoomVersionId, owned_event_id, user_id};

    use super::*;

    fn redact(version: RoomVersionId, json: &str) -> String {
        let rules = version.rules().unwrap();
        let pdu = Pdu::parse(owned_event_id!("$id"), &rules, json).unwrap();
        redacted(&pdu, &rules).unwrap().json()
    }

    fn event(kind: &str, content: &str) -> String {
        format!(
            r#"{{"auth_events":[],"content":{content},"depth":1,"hashes":{{"sha256":"x"}},"membership":"join","origin":"a.example","origin_server_ts":1,"prev_events":[],"room_id":"!r:a.example","sender":"@u:a.example","signatures":{{}},"state_key":"","type":"{kind}","unheard_of":1}}"#
        )
    }

    #[test]
    fn keeps_what_the_version_keeps() {
        let rules = r#"{"allow":[],"join_rule":"restricted","x":1}"#;
        let old = redact(RoomVersionId::V7, &event("m.room.join_rules", rules));
        assert!(old.contains(r#""content":{"join_rule":"restricted"}"#), "{old}");
        assert!(old.contains("membership") && !old.contains("unheard_of"), "{old}");
        let new = redact(RoomVersionId::V11, &event("m.room.join_rules", rules));
        assert!(new.contains(r#""content":{"allow":[],"join_rule":"restricted"}"#), "{new}");
        assert!(!new.contains("membership"), "{new}");
        let message = redact(RoomVersionId::V11, &event("m.room.message", r#"{"body":"hi"}"#));
        assert!(message.contains(r#""content":{}"#), "{message}");
    }

    #[test]
    fn facts_about_the_event_stay() {
        let rules = RoomVersionId::V11.rules().unwrap();
        let mut pdu = Pdu::parse(owned_event_id!("$id"), &rules, &event("m.x", "{}")).unwrap();
        (pdu.pk, pdu.state_root, pdu.soft_failed) = (7, 8, true);
        let stripped = redacted(&pdu, &rules).unwrap();
        assert_eq!((stripped.pk, stripped.state_root, stripped.soft_failed), (7, 8, true));
        assert_eq!(stripped.event_id, pdu.event_id);
    }

    #[test]
    fn who_may_redact() {
        let (alice, anna, bob) =
            (user_id!("@alice:a.example"), user_id!("@anna:a.example"), user_id!("@bob:b.example"));
        assert!(may_send(alice, alice, false) && !may_send(alice, anna, false) && may_send(alice, bob, true));
        assert!(takes_effect(alice, anna, false) && !takes_effect(alice, bob, false));
    }
}
