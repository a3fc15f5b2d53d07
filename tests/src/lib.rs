//! Shared by the live tests: the workload generator, whose connections are known by construction, and the rules for
//! skipping a test.

pub mod agent;
pub mod objects;
pub mod ports;
pub mod record;
pub mod require;
pub mod scenarios;
pub mod schema;
pub mod software;
pub mod terminal;
pub mod top;
pub mod tracer;
pub mod workload;
