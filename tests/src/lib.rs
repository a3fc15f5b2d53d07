//! What the live tests share: the workload generator, whose connections are known by construction, and the rules
//! by which a test may be skipped.

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
