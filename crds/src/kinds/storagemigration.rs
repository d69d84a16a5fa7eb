//! The kinds of the storagemigration group.

pub mod storage_version_migration;
