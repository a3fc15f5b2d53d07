//! Struct offsets from the running kernel's BTF.
