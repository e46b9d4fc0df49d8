//! The state of a room: a map from state keys to events that is never changed, only continued.
//!
//! Every pair of type and state key gets a dense index when the room first sees it (its strings stay
//! raw). The map from index to event is a radix array with 32 slots a node ([`node`]); a new version
//! shares all nodes that did not change with the one before ([`tree`]). So a state event costs a path
//! of small nodes, each event can name the state before it by a root, and two states are compared in
//! the time of their difference: sync deltas, conflicts and partial joins live on that.
//!
//! Nothing here loads anything. An operation that meets a node that is not there says which ones it
//! needs, as many as it can tell at once; the caller loads them and asks again.

pub mod node;
pub mod tree;

pub use self::node::{EventPk, Index, Node, NodeId};
pub use self::tree::{Change, Nodes, TreeError, diff, get, get_many, insert_many, iterate};
