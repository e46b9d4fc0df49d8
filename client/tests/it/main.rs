//! The commands against a homeserver, given by `MYELIN_TEST_SERVER` (open registration, no rate
//! limits). Without it the tests say so and do nothing.

mod commands;
mod encryption;
mod world;
