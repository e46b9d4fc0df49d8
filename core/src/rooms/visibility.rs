//! Who may see an event, by the state of the room at that event.
//!
//! "At the event" is the state before it. Two kinds of event also look at what they make of it: a
//! change of the history visibility, and the reader's own member event; the more generous view counts.

/// `m.room.history_visibility`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Visibility {
    /// For everybody who has an account on any server.
    WorldReadable,
    /// For members, from the beginning. Also where nothing is set or understood.
    #[default]
    Shared,
    /// For members, from their invitation.
    Invited,
    /// For members, from their joining.
    Joined,
}

impl Visibility {
    /// Reads the field of the event.
    pub fn parse(text: &str) -> Self {
        match text {
            "world_readable" => Self::WorldReadable,
            "invited" => Self::Invited,
            "joined" => Self::Joined,
            _ => Self::Shared,
        }
    }
}

/// `membership` of `m.room.member`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Membership {
    /// In the room.
    Join,
    /// Invited.
    Invite,
    /// Asking to come in.
    Knock,
    /// Not there: never was, has left, or was removed. Also where nothing is understood.
    #[default]
    Leave,
    /// Not welcome.
    Ban,
}

impl Membership {
    /// Reads the field of the event.
    pub fn parse(text: &str) -> Self {
        match text {
            "join" => Self::Join,
            "invite" => Self::Invite,
            "knock" => Self::Knock,
            "ban" => Self::Ban,
            _ => Self::Leave,
        }
    }

    /// The name in the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Knock => "knock",
            Self::Leave => "leave",
            Self::Ban => "ban",
        }
    }
}

/// What an event itself changes, as far as it matters to the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sets {
    /// Nothing that decides who sees it.
    Nothing,
    /// The room's history visibility.
    Visibility(Visibility),
    /// The reader's own membership.
    Membership(Membership),
}

/// Everything that decides.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The history visibility before the event.
    pub visibility: Visibility,
    /// The reader's membership before the event.
    pub membership: Membership,
    /// What the event changes.
    pub sets: Sets,
    /// The reader joined at some point after the event, or is joined now.
    pub joined_later: bool,
}

/// May the reader see the event?
pub fn may_see(view: &View) -> bool {
    let allowed = |visibility, membership| at(visibility, membership, view.joined_later);
    if allowed(view.visibility, view.membership) {
        return true;
    }
    match view.sets {
        Sets::Nothing => false,
        Sets::Visibility(after) => allowed(after, view.membership),
        Sets::Membership(after) => {
            // Whoever declines an invitation must see it go, even where an invitation shows nothing.
            let declined = after == Membership::Leave && view.membership == Membership::Invite;
            declined || allowed(view.visibility, after)
        }
    }
}

fn at(visibility: Visibility, membership: Membership, joined_later: bool) -> bool {
    match visibility {
        Visibility::WorldReadable => true,
        _ if membership == Membership::Join => true,
        Visibility::Shared => joined_later,
        Visibility::Invited => membership == Membership::Invite,
        Visibility::Joined => false,
    }
}

/// May somebody who was never in the room look at its present state and what follows?
pub fn may_peek(visibility: Visibility) -> bool {
    visibility == Visibility::WorldReadable
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Visibility, membership, joined later, seen: the five rules of the specification, written out.
    const TABLE: &str = "
        world_readable leave  no  yes
        world_readable ban    no  yes
        world_readable join   no  yes
        shared         join   no  yes
        shared         leave  no  no
        shared         invite no  no
        shared         leave  yes yes
        shared         invite yes yes
        shared         ban    yes yes
        shared         knock  no  no
        nonsense       leave  yes yes
        nonsense       leave  no  no
        invited        join   no  yes
        invited        invite no  yes
        invited        invite yes yes
        invited        leave  yes no
        invited        knock  yes no
        invited        ban    no  no
        joined         join   no  yes
        joined         invite yes no
        joined         leave  yes no
        joined         ban    no  no
        joined         knock  no  no";

    fn rows() -> impl Iterator<Item = (View, bool)> {
        TABLE
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|row| !row.is_empty())
            .map(|row| {
                let [visibility, membership, later, seen] = row[..] else { panic!("{row:?}") };
                let view = View {
                    visibility: Visibility::parse(visibility),
                    membership: Membership::parse(membership),
                    sets: Sets::Nothing,
                    joined_later: later == "yes",
                };
                (view, seen == "yes")
            })
    }

    #[test]
    fn ordinary_events() {
        for (view, seen) in rows() {
            assert_eq!(may_see(&view), seen, "{view:?}");
        }
    }

    #[test]
    fn a_change_of_visibility_is_seen_by_either() {
        for (before, seen_before) in rows() {
            for (after, seen_after) in rows() {
                if (before.membership, before.joined_later) == (after.membership, after.joined_later) {
                    let view = View { sets: Sets::Visibility(after.visibility), ..before };
                    assert_eq!(may_see(&view), seen_before || seen_after, "{view:?}");
                }
            }
        }
    }

    #[test]
    fn an_own_member_event_is_seen_before_or_after() {
        for (before, seen_before) in rows() {
            for (after, seen_after) in rows() {
                if (before.visibility, before.joined_later) == (after.visibility, after.joined_later) {
                    let view = View { sets: Sets::Membership(after.membership), ..before };
                    let declined =
                        (before.membership, after.membership) == (Membership::Invite, Membership::Leave);
                    assert_eq!(may_see(&view), seen_before || seen_after || declined, "{view:?}");
                }
            }
        }
    }

    #[test]
    fn names_go_round() {
        for text in ["join", "invite", "leave", "ban", "knock"] {
            assert_eq!(Membership::parse(text).as_str(), text);
        }
        assert_eq!(Membership::parse("else"), Membership::Leave);
    }
}
