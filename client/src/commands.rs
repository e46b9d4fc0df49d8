//! What each command does, one file a command.
//!
//! A command is a function of an open [`Session`], its arguments and an [`Output`]; it never reads
//! the command line or the environment itself, except for secrets. So tests and the demo call the
//! same functions as the executable.

use crate::{
    cli::{Cli, Command},
    demo,
    output::Output,
    session::{self, Profile, Session},
};
use anyhow::{Context, Result, bail};
use matrix_sdk::{
    Room,
    ruma::{OwnedUserId, RoomAliasId, RoomId, UserId},
};

pub mod create;
pub mod devices;
pub mod fingerprint;
pub mod follow;
pub mod invite;
pub mod join;
pub mod leave;
pub mod login;
pub mod logout;
pub mod read;
pub mod recovery;
pub mod register;
pub mod rooms;
pub mod send;
pub mod verify;
pub mod whoami;

/// Runs the command that the command line names.
pub async fn run(cli: Cli, out: &Output) -> Result<()> {
    if let Command::Demo(arguments) = cli.command {
        return demo::run(arguments, out).await;
    }
    let home = cli.home.map_or_else(session::default_home, Ok)?;
    let profile = Profile::lock(&home, &cli.profile)?;
    match cli.command {
        Command::Register(arguments) => return register::run(profile, &arguments, out).await,
        Command::Login(arguments) => return login::run(profile, &arguments, out).await,
        _ => {}
    }
    let session = Session::open(profile, None).await?;
    match cli.command {
        Command::Logout(arguments) => return logout::run(session, &arguments, out).await,
        Command::Whoami => whoami::run(&session, out).await,
        Command::Rooms => rooms::run(&session, out).await,
        Command::Create(arguments) => create::run(&session, &arguments, out).await.map(drop),
        Command::Invite(arguments) => invite::run(&session, &arguments, out).await,
        Command::Join(arguments) => join::run(&session, &arguments, out).await.map(drop),
        Command::Leave(arguments) => leave::run(&session, &arguments, out).await,
        Command::Send(arguments) => send::run(&session, &arguments, out).await.map(drop),
        Command::Read(arguments) => read::run(&session, &arguments, out).await,
        Command::Follow(arguments) => follow::run(&session, &arguments, out).await,
        Command::Devices(arguments) => devices::run(&session, &arguments, out).await,
        Command::Verify(arguments) => verify::run(&session, &arguments, out).await,
        Command::Fingerprint(arguments) => fingerprint::run(&session, &arguments, out).await.map(drop),
        Command::Recovery(action) => recovery::run(&session, &action, out).await,
        Command::Register(_) | Command::Login(_) | Command::Demo(_) => Ok(()),
    }?;
    session.finish(out).await
}

/// The room that somebody means by an identifier, an alias, a user (their direct chat) or a name.
pub async fn find_room(session: &Session, text: &str) -> Result<Room> {
    let client = &session.client;
    if text.starts_with('!') {
        let id = RoomId::parse(text)?;
        return client.get_room(&id).with_context(|| format!("you are not in {text}"));
    }
    if text.starts_with('#') {
        let alias = RoomAliasId::parse(text)?;
        let id = client.resolve_room_alias(&alias).await?.room_id;
        return client.get_room(&id).with_context(|| format!("you are not in {text}"));
    }
    if text.starts_with('@') {
        let user = UserId::parse(text)?;
        return client.get_dm_room(&user).with_context(|| {
            format!("there is no direct chat with {user}: `create --direct {user}` makes one")
        });
    }
    let mut named = Vec::new();
    for room in client.rooms() {
        if room.display_name().await.is_ok_and(|name| name.to_string() == text) {
            named.push(room);
        }
    }
    match named.len() {
        0 => bail!("no room is called {text:?}"),
        1 => named.pop().context("no room"),
        many => bail!("{many} rooms are called {text:?}: use the identifier that `rooms` shows"),
    }
}

/// A user's identifier; a bare name means somebody on one's own server.
pub fn find_user(session: &Session, text: &str) -> Result<OwnedUserId> {
    UserId::parse_with_server_name(text, session.user.server_name())
        .with_context(|| format!("{text:?} is not a user's identifier"))
}
