// R2: a kernel argument is used where its stream is.
// Instead: make it from the view on the stream's thread, right before the launch.
use tidelock::{
    ViewMut,
    cuda::{Cuda, KernelPtr},
};

fn on_another_thread<F: FnOnce() + Send>(_: F) {}

pub fn launch_there(logits: ViewMut<'_, f32, Cuda<'_>>) {
    let argument = KernelPtr::from(logits);
    on_another_thread(move || drop(argument));
}

fn main() {}
