//! An async server in front of an engine: an engine on a thread of its own, behind a channel, and a
//! task for each of 100 requests that are in flight at one time.
//!
//! No thread waits for the device: a task awaits the memory that its answer arrives in. One request
//! makes the engine's step panic, and one breaks the device. The requests of that step, and what was
//! still on its way from a broken device, are refused, and the engine goes on. It ends when the
//! clients have.
//!
//! `cargo run --example async_server` needs no GPU.

use std::{
    error::Error,
    iter,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
};

use tidelock::{
    Buffer, Ctx, Result,
    driver::Code,
    sim::{self, Call, Fault, Sim, SimBackend},
    stream::{Arriving, StreamAlloc},
};
use tokio::{runtime, sync::oneshot, task::JoinSet};

/// An answer that the device may still be writing.
type Answer = Buffer<u32, Arriving<SimBackend>>;

/// What a client asks for, and where the answer goes.
struct Request {
    prompt: Prompt,
    reply: oneshot::Sender<Answer>,
}

#[derive(Clone, Copy)]
enum Prompt {
    Tokens([u32; 4]),
    /// The step of the engine panics.
    Panic,
    /// The device breaks.
    Break,
}

/// The most requests of one step.
const BATCH: usize = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let (requests, queue) = mpsc::channel();
    let engine = thread::spawn(move || engine(&queue));
    let runtime = runtime::Builder::new_current_thread().build()?;
    let tokens = |n| Prompt::Tokens([n, n + 1, n + 2, n + 3]);
    let hard = |n| match n {
        30 => Prompt::Panic,
        60 => Prompt::Break,
        n => tokens(n),
    };
    runtime.block_on(async {
        let [answered, refused] = clients(&requests, hard).await;
        println!("{answered} answered and {refused} refused beside a panic and a broken device");
        assert_eq!(answered + refused, 100);
        assert!(refused >= 2);
        // The engine is as good as new.
        let [answered, refused] = clients(&requests, tokens).await;
        assert_eq!([answered, refused], [100, 0]);
    });
    drop(requests);
    let [devices, panics] = engine.join().map_err(|_| "the engine's thread panicked")?;
    assert_eq!([devices, panics], [2, 1]);
    println!("the engine has ended: {devices} devices, {panics} panic");
    Ok(())
}

/// Runs 100 clients at once, and counts the requests that were answered and refused.
async fn clients(requests: &mpsc::Sender<Request>, prompt: impl Fn(u32) -> Prompt) -> [usize; 2] {
    let mut all = JoinSet::new();
    for n in 0..100 {
        let client = client(requests.clone(), prompt(n));
        all.spawn(async move { client.await.inspect_err(|error| println!("request {n}: {error}")).is_ok() });
    }
    let answered = all.join_all().await.into_iter().filter(|is_answered| *is_answered).count();
    [answered, 100 - answered]
}

/// Sends a request, and waits for its answer without blocking a thread.
async fn client(requests: mpsc::Sender<Request>, prompt: Prompt) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (reply, answer) = oneshot::channel();
    requests.send(Request { prompt, reply })?;
    // The engine drops the sender of a step that fails.
    let arriving = answer.await?;
    let tokens = arriving.await?;
    if let Prompt::Tokens(prompt) = prompt {
        assert_eq!(tokens[..], prompt.map(|token| 2 * token));
    }
    Ok(())
}

/// Serves requests until there is no client. Returns how many devices and panics there were.
fn engine(queue: &mpsc::Receiver<Request>) -> [usize; 2] {
    let (mut device, mut devices, mut panics) = (sim::Device::default(), 1, 0);
    loop {
        // A panic waits for the stream and ends it. What is on its way arrives.
        match catch_unwind(AssertUnwindSafe(|| steps(&device, queue))) {
            Ok(Ok(())) => return [devices, panics],
            Ok(Err(error)) => {
                println!("the device is replaced: {error}");
                (device, devices) = (sim::Device::default(), devices + 1);
            }
            Err(_) => panics += 1,
        }
    }
}

/// The steps of one stream.
fn steps(device: &sim::Device, queue: &mpsc::Receiver<Request>) -> Result<()> {
    device.stream(|stream, _env| {
        let ctx = stream.ctx().with_pool();
        while let Ok(first) = queue.recv() {
            let batch: Vec<Request> = iter::once(first).chain(queue.try_iter().take(BATCH - 1)).collect();
            step(device, &ctx, batch)?;
        }
        Ok(())
    })?
}

/// Doubles the tokens of each request. The engine goes on before the device has.
fn step<'s>(device: &sim::Device, ctx: &Ctx<'_, Sim<'s>, StreamAlloc<Sim<'s>>>, batch: Vec<Request>) -> Result<()> {
    let mut answers = Vec::new();
    for Request { prompt, reply } in batch {
        let prompt = match prompt {
            Prompt::Tokens(tokens) => tokens,
            Prompt::Panic => panic!("a step of the engine, on purpose"),
            Prompt::Break => {
                let call = Some(Call::LaunchKernel);
                device.gpu().fail(Fault { nth: 1, onwards: true, call, code: Code::LAUNCH_FAILED });
                [0; 4]
            }
        };
        let mut tokens = ctx.upload_new(&prompt)?;
        ctx.launch((tokens.view_mut(),), |(tokens,)| tokens.iter_mut().for_each(|token| *token *= 2))?;
        answers.push((ctx.init_from(ctx.alloc_pinned(4)?.stage(ctx), tokens.view())?, reply));
    }
    // The fences share one record.
    for (answer, reply) in answers {
        // A client that has gone away drops its answer, which waits for nothing.
        let _ = reply.send(ctx.fence(answer)?.detach());
    }
    Ok(())
}
