//! A recording as trace events, which Perfetto and Chrome's tracing page open.

#![forbid(unsafe_code)]

use std::io::{self, Write};

use super::recorder::{Kind, Phase, Recording, Work};

/// The threads of the trace.
const HOST: u32 = 1;
const COMPUTE: u32 = 2;
const UPLOAD: u32 = 3;

/// Writes the recording as one JSON object.
///
/// # Errors
///
/// Those of `out`.
pub fn write(recording: &Recording, out: &mut impl Write) -> io::Result<()> {
    let Recording { streams, host, upload, compute, samples } = recording;
    let name = if *streams == 1 { "stream" } else { "compute stream" };
    writeln!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    write!(out, "{{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{{\"name\":\"continuous batching\"}}}}")?;
    thread(out, HOST, "host")?;
    thread(out, COMPUTE, name)?;
    if *streams > 1 {
        thread(out, UPLOAD, "upload stream")?;
    }
    for span in host {
        event(out, HOST, phase(span.phase), span.iteration, span.begin, span.end)?;
    }
    for (tid, works) in [(COMPUTE, compute), (UPLOAD, upload)] {
        for &Work { kind: what, iteration, begin, end } in works {
            event(out, tid, kind(what), iteration, begin, end)?;
        }
    }
    for s in samples {
        counter(out, s.at, "rows in the batch", &[("rows", s.rows)])?;
        let memory = [("reserved", s.reserved), ("used", s.used), ("states", s.states)];
        counter(out, s.at, "device memory", &memory[..if s.used > 0 { 3 } else { 1 }])?;
        counter(out, s.at, "pinned memory", &[("used", s.pinned)])?;
        counter(out, s.at, "arena", &[("peak", s.arena)])?;
        counter(out, s.at, "bytes moved", &[("up", s.up), ("down", s.down)])?;
    }
    writeln!(out, "\n]}}")
}

/// The name of a phase of the host.
pub fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Plan => "plan",
        Phase::Fill => "fill",
        Phase::Submit => "submit",
        Phase::Wait => "wait",
        Phase::Verify => "verify",
    }
}

/// The name of a stream's work.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Up => "rows up",
        Kind::Repack => "re-pack",
        Kind::Model => "model",
        Kind::Down => "tokens down",
    }
}

fn thread(out: &mut impl Write, tid: u32, name: &str) -> io::Result<()> {
    write!(
        out,
        ",\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{tid},\"name\":\"thread_name\",\"args\":{{\"name\":\"{name}\"}}}}"
    )?;
    write!(
        out,
        ",\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{tid},\"name\":\"thread_sort_index\",\"args\":{{\"sort_index\":{tid}}}}}"
    )
}

fn event(out: &mut impl Write, tid: u32, name: &str, iteration: u32, begin: u64, end: u64) -> io::Result<()> {
    let (ts, dur) = (Micros(begin), Micros(end - begin));
    write!(out, ",\n{{\"ph\":\"X\",\"pid\":1,\"tid\":{tid},\"name\":\"{name}\",\"ts\":{ts},\"dur\":{dur},")?;
    write!(out, "\"args\":{{\"iteration\":{iteration}}}}}")
}

fn counter(out: &mut impl Write, at: u64, name: &str, values: &[(&str, u64)]) -> io::Result<()> {
    write!(out, ",\n{{\"ph\":\"C\",\"pid\":1,\"name\":\"{name}\",\"ts\":{},\"args\":{{", Micros(at))?;
    for (i, (series, value)) in values.iter().enumerate() {
        write!(out, "{}\"{series}\":{value}", if i == 0 { "" } else { "," })?;
    }
    write!(out, "}}}}")
}

/// Nanoseconds, shown as microseconds.
struct Micros(u64);

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
