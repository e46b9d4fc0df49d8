//! The command line.

use crate::{commands, demo};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// An end-to-end encrypted Matrix client.
#[derive(Debug, Parser)]
#[command(name = "myelin-client", version, about)]
pub struct Cli {
    /// Folder of the profiles (default: myelin-client in the user's data folder)
    #[arg(long, global = true, env = "MYELIN_CLIENT_HOME", value_name = "DIR")]
    pub home: Option<PathBuf>,

    /// Which profile to use; one profile is one device
    #[arg(
        long,
        global = true,
        env = "MYELIN_CLIENT_PROFILE",
        default_value = "default",
        value_name = "NAME"
    )]
    pub profile: String,

    /// Print one JSON object per line, for scripts
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What the client can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an account on a server and log in to it
    Register(commands::register::Arguments),
    /// Log in, as a new device
    Login(commands::login::Arguments),
    /// Log out: the server forgets the device, this machine forgets its keys
    Logout(commands::logout::Arguments),
    /// Who is logged in, on which device, and whether it is verified
    Whoami,
    /// List the rooms and the invitations
    Rooms,
    /// Create a room (encrypted unless told otherwise)
    Create(commands::create::Arguments),
    /// Invite somebody into a room
    Invite(commands::invite::Arguments),
    /// Join a room or accept an invitation
    Join(commands::join::Arguments),
    /// Leave a room or decline an invitation
    Leave(commands::leave::Arguments),
    /// Send a text message
    Send(commands::send::Arguments),
    /// Print the last messages of a room
    Read(commands::read::Arguments),
    /// Print messages as they arrive
    Follow(commands::follow::Arguments),
    /// List somebody's devices (default: one's own)
    Devices(commands::devices::Arguments),
    /// Verify another device of one's own, or another person, by emojis or QR code
    Verify(commands::verify::Arguments),
    /// The safety number shared with somebody
    Fingerprint(commands::fingerprint::Arguments),
    /// The recovery key: enable it, or restore with it
    #[command(subcommand)]
    Recovery(commands::recovery::Action),
    /// A whole encrypted conversation, played and checked
    Demo(demo::Arguments),
}
