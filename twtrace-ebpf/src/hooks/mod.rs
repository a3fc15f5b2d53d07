//! One hook a file.

mod accept_exit;
mod connect_exit;
mod send_reset;
mod set_state;
mod set_state_twin;
