//! One hook a file.

mod accept_exit;
mod bind_exit;
mod connect_exit;
mod csk_accept;
mod hash_connect;
mod process_exec;
mod send_reset;
mod set_state;
mod set_state_plain;
mod set_state_probed;
mod set_state_twin;
mod sys_exit;
mod twsk_alloc;
mod twsk_end;
mod twsk_unique;
