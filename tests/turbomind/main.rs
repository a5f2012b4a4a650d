//! The semantics of TurboMind's core, case by case: what it answers here, and where its bugs are
//! errors. The facts are read from lmdeploy 1263d5c (2026-08-21), src/turbomind/core, whose edge
//! cases were compiled and run.

mod layout;
