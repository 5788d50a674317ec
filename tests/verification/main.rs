//! Interactive verification: two devices of this library, and a hostile other side that is played
//! by hand.

mod handover;
mod hostile;
mod in_rooms;
mod puppet;
mod signed;
mod strangers;
mod together;
